"""A bundle on disk: built in a temporary folder, completed by its manifest, and moved into place in one step.

Symbols: B golden rows, M their flat candidates.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from contract.bundle import manifest as names
from contract.bundle.manifest import ModelName, Version, digest_of, table_file, write_manifest
from contract.bundle.tracks import FOLDER as TRACKS
from exporter.bundle.manifest import manifest_of
from exporter.bundle.release import Release
from exporter.card.page import model_card
from exporter.card.previous import Previous, previous_bundle
from exporter.errors import ExportError

_WHOLE_NUMBER: Final = re.compile(r"[1-9][0-9]*")
_MODEL_NAME: Final = TypeAdapter(ModelName)
_VERSION: Final = TypeAdapter(Version)
_READABLE: Final = 0o755  # a temporary directory is private; the service runs as another user
_READ_ONLY: Final = 0o444  # a served table is mapped: an edit in place would change what is being served

Arrays = Mapping[str, NDArray[Any]]  # Any: int64 or float32
Seal = Callable[[Path], None]


def write_bundle(release: Release, out: Path, version: str | None = None, seal: Seal | None = None) -> Path:
    """Write `out/<model>/<version>/` and return it; without a version, the next free whole number.

    Args:
        release: its contents.
        out: folder of the bundles.
        version: its name.
        seal: signs the complete bundle before it gets its name.

    Raises:
        ExportError: the version exists already or is not a valid name, or the disk refuses.
    """
    check_target(out, release.run.name, version)
    home = out / release.run.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        return _build_and_move(release, home, version or _next_version(home), seal)
    except OSError as error:
        raise ExportError(f"{error.filename or home}: {error.strerror}") from error


def check_target(out: Path, model: str, version: str | None) -> None:
    """Check that a bundle may be written, before any work is done for it.

    Raises:
        ExportError: the version exists already or is not a valid name, or a file is in the way.
    """
    for kind, adapter, name in (("model", _MODEL_NAME, model), ("version", _VERSION, version)):
        try:
            if name is not None:
                adapter.validate_python(name)
        except ValidationError as error:
            raise ExportError(f"{(name or '')[:64]!r} is not a valid name for a {kind}") from error
    if version == TRACKS:
        raise ExportError(f"{version!r} cannot be a version: the folder of this name has the model's tracks")
    if version is not None and os.path.lexists(out / model / version):
        raise ExportError(f"{out / model / version}: this version exists already; a version is never overwritten")
    home = out / model
    nearest = next(place for place in (home, *home.parents) if place.exists())
    if not nearest.is_dir():
        raise ExportError(f"{nearest}: {os.strerror(errno.ENOTDIR)}")


def _build_and_move(release: Release, home: Path, version: str, seal: Seal | None) -> Path:
    building = Path(tempfile.mkdtemp(prefix=f".{version}.", suffix=".partial", dir=home))
    try:
        _fill(building, release, version, previous_bundle(home, release.run))
        if seal is not None:
            seal(building)
        building.chmod(_READABLE)
        building.rename(home / version)  # refuses to replace a bundle that appeared meanwhile
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return home / version


def _fill(directory: Path, release: Release, version: str, previous: Previous | None) -> None:
    files = _files(release)
    unsealed = manifest_of(release, version)
    files[names.MODEL_CARD] = model_card(release.run, unsealed, release.report, previous).encode()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    for name in release.traced.tables:
        (directory / table_file(name)).chmod(_READ_ONLY)
    digests = {name: digest_of((directory / name).read_bytes()) for name in sorted(files)}
    write_manifest(directory, unsealed.model_copy(update={"files": digests}))


def _files(release: Release) -> dict[str, bytes]:
    run, golden = release.run, release.golden
    arrays: Arrays = {
        **{f"encode.{name}": values for name, values in golden.inputs.items()},
        **golden.flat,
        "scores": release.scores,
        **(release.new.golden.arrays() if release.new is not None else {}),
    }
    files = {
        names.ENCODE: release.traced.encode.content,
        names.SCORE: release.traced.score.content,
        names.ITEMS: (run.directory / names.ITEMS).read_bytes(),
        names.POPULARITY: _npy(run.popularity),
        names.GOLDEN: _npz(arrays),
        **{table_file(name): _npy(table) for name, table in release.traced.tables.items()},
    }
    if release.new is not None:
        files |= release.new.files()
    if run.users is not None:
        files[names.USERS] = (run.directory / names.USERS).read_bytes()
    if run.reference is not None and release.has_reference:
        files[names.REFERENCE] = run.reference
    if run.catalogue is not None:
        files[names.CATALOGUE] = run.catalogue
    return files


def _next_version(home: Path) -> str:
    """Return one more than the highest whole number among the versions, in any state."""
    taken = [int(path.name) for path in home.iterdir() if _WHOLE_NUMBER.fullmatch(path.name)]
    return str(max(taken, default=0) + 1)


def _npy(array: NDArray[Any]) -> bytes:  # Any: float32 or int64
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _npz(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()
