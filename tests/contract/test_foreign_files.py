"""A bundle cannot lead its readers to files outside its folder: the service, signing and batch scoring.

Everything that the process opens meanwhile is recorded: nothing of the bundle but its manifest is opened if a name is
bad, and a link is opened only in the way that refuses links.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.bundle import manifest as names
from contract.bundle.manifest import digest_of
from deploy.scoring.__main__ import main as score
from exporter.sign import main as sign
from exporter.signing import make_key
from service.bundles.bundle import BundleError, load_bundle
from tests.support.builders import TinyModel

pytestmark = pytest.mark.onnx

SECRET = b"a secret of this machine"
NAMES = (
    "../secret", "../../secret", "a/../../secret", "{outside}", "/etc/passwd", "/dev/zero", "/proc/self/environ", ".",
    "..", "", "./score.onnx", "score.onnx/", "score.onnx\0.txt", "\0", "..\\secret", "c:\\secret", "score.onnx\n",
    "SCORE.ONNX", "score\u2024onnx", "\uff0e\uff0e/secret", "~/secret", "$HOME", "file:///etc/passwd",
    "x" * 300 + ".npy", "score.onnx ",
)  # fmt: skip
Opened = list[tuple[str, int]]
_recording: list[Opened] = []


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _recording:
        path, _, flags = arguments
        if isinstance(path, str | bytes | os.PathLike):  # else it is a descriptor
            _recording[-1].append((os.fsdecode(path), flags if isinstance(flags, int) else 0))


sys.addaudithook(_record)  # it stays until the process ends


@contextmanager
def recorded() -> Iterator[Opened]:
    """Note the path and the flags of every file that is opened in the block."""
    _recording.append([])
    try:
        yield _recording[-1]
    finally:
        _recording.pop()


def serve(bundle: Path, _: Path) -> str:
    """Load it as the service does, and return the refusal."""
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle, max_bytes=10_000_000)
    return str(caught.value)


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], reader: str) -> Callable[[Path, Path], str]:
    """How a reader refuses a bundle: it returns the one line."""

    def signed(bundle: Path, folder: Path) -> str:
        assert sign(["bundle", str(folder / "key"), str(bundle)]) == 1
        return capsys.readouterr().err

    def scored(bundle: Path, folder: Path) -> str:
        assert score([str(bundle), str(folder / "behaviours.csv"), "--out", str(folder / "lists")]) == 1
        return capsys.readouterr().err

    return {"service": serve, "sign": signed, "scoring": scored}[reader]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_key(tmp_path / "key")
    (tmp_path / "behaviours.csv").write_text("user_id,item_id,ts\nu1,i1,1700000000000\n")
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "bundles" / "secret").parent.mkdir()
    (tmp_path / "bundles" / "secret").write_bytes(SECRET)
    return tmp_path


def files_of(opened: Opened, bundle: Path) -> set[str]:
    """Return what of the bundle or beside it was opened: names relative to it, and paths that lead out of it."""
    others = {"key", "behaviours.csv"}
    own = {path for path, _ in opened if "/" not in path or path.startswith(str(bundle.parents[2]))}
    return {path.removeprefix(f"{bundle}/") for path in own if Path(path).name not in others and path != str(bundle)}


@pytest.mark.parametrize("reader", ["service", "sign", "scoring"])
def test_a_name_that_leads_out_of_the_bundle_is_refused_before_any_file_of_it_is_opened(
    folder: Path, refusal: Callable[[Path, Path], str]
) -> None:
    bundle = TinyModel().write(folder / "bundles")
    good = json.loads((bundle / names.MANIFEST).read_bytes())
    for template in NAMES:
        name = template.format(outside=folder / "secret") if template.startswith("{") else template
        (bundle / names.MANIFEST).write_text(json.dumps(good | {"files": {name: digest_of(SECRET), **good["files"]}}))
        with recorded() as opened:
            said = refusal(bundle, folder)
        assert "manifest: files" in said, (name, said)
        assert len(said) < 400
        assert said.strip().isprintable()
        assert files_of(opened, bundle) <= {names.MANIFEST}, (name, opened)
    assert not (folder / "lists").exists()


@pytest.mark.parametrize("reader", ["service", "sign", "scoring"])
@pytest.mark.parametrize(
    "kind",
    [
        "link",
        "pipe",
        pytest.param("broken link", marks=pytest.mark.slow),
        pytest.param("folder", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_is_a_link_out_of_the_bundle_or_none_at_all_is_refused_and_not_followed(
    folder: Path, refusal: Callable[[Path, Path], str], kind: str
) -> None:
    bundle = TinyModel().write(folder / "bundles")
    path = bundle / names.SCORE
    path.rename(folder / "elsewhere.onnx")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / "elsewhere.onnx" if kind == "link" else folder / "nowhere")
    with recorded() as opened:
        said = refusal(bundle, folder)
    assert "score.onnx is " in said
    flags = [flags for place, flags in opened if place in {names.SCORE, str(path)}]
    assert flags
    assert all(one & os.O_NOFOLLOW and one & os.O_NONBLOCK for one in flags)
    assert not {place for place, _ in opened if "elsewhere" in place or "nowhere" in place}
