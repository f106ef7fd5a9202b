"""The location of a data set: a named folder, the folder next to the checkout, or the official archive.

In this order: --data, $RANKER_DATA, ../shared/data next to the checkout, an earlier download, the official archive.
"""

from __future__ import annotations

import io
import os
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from training.data.datasets.interactions import DataError

ROOT: Final = Path(__file__).resolve().parents[3]
_TIMEOUT_SECONDS: Final = 20
_MAX_ARCHIVE_BYTES: Final = 32 * 2**20


class Archive(NamedTuple):
    """An official archive: its address, the SHA-256 of its bytes, and the files to take from it."""

    url: str
    sha256: str
    files: tuple[str, ...]


ARCHIVES: Final = {
    "ml-100k": Archive(
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ("u.data", "u.item", "u.genre", "README"),
    )
}

Fetch = Callable[[str], bytes]


def data_folder() -> Path | None:
    """Return the folder that $RANKER_DATA names, or None if it is not set."""
    named = os.environ.get("RANKER_DATA")  # noqa: TID251 (the documented way to name the data folder offline)
    return Path(named) if named else None


def locate(name: str, files: Sequence[str], given: Path | None, downloads: Path, fetch: Fetch | None = None) -> Path:
    """Return the folder that contains the data set `name`.

    Args:
        name: of the data set: `ml-100k`.
        files: its files; a folder with the first of them, plain or packed, counts as its folder.
        given: the folder of --data: the data set's folder or its parent. A named folder (or $RANKER_DATA) must
            contain the data: no other place is tried then.
        downloads: folder for unpacked archives.
        fetch: reads a URL; for tests.

    Raises:
        DataError: it was not found; the message lists the places tried.
    """
    named = given or data_folder()
    if named is not None:
        return _inside(name, files, named, "--data" if given else "RANKER_DATA")
    for folder in (ROOT.parent / "shared" / "data" / name, downloads / name):
        if _holds(folder, files[0]):
            return folder
    if name not in ARCHIVES:
        raise DataError(
            f"{name} is not next to the checkout, and it has no archive to download; "
            f"set RANKER_DATA to a folder that contains {name}/ ({', '.join(files)})"
        )
    return _download(name, downloads / name, fetch or _fetch)


def _inside(name: str, files: Sequence[str], folder: Path, how: str) -> Path:
    for candidate in (folder / name, folder):
        if _holds(candidate, files[0]):
            return candidate
    raise DataError(f"{how} is {folder}, but neither it nor {folder / name} contains {name} ({', '.join(files)})")


def _holds(folder: Path, marker: str) -> bool:
    return (folder / marker).exists() or (folder / f"{marker}.gz").exists()


def _download(name: str, folder: Path, fetch: Fetch) -> Path:
    archive = ARCHIVES[name]
    try:
        content = fetch(archive.url)
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{name} is not next to the checkout and {archive.url} cannot be downloaded ({reason}); "
            f"set RANKER_DATA to a folder that contains {name}/"
        ) from None
    found = sha256(content).hexdigest()
    if found != archive.sha256:
        raise DataError(
            f"{archive.url}: the digest is {found[:16]}..., expected {archive.sha256[:16]}...; nothing was kept"
        )
    _unpack(name, archive, content, folder)
    return folder


def _unpack(name: str, archive: Archive, content: bytes, folder: Path) -> None:
    """Write the selected files; the ratings last, so that their presence means that all files are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        for file in reversed(archive.files):
            partial = folder / f"{file}.partial"
            partial.write_bytes(packed.read(f"{name}/{file}"))
            partial.replace(folder / file)


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        content = response.read(_MAX_ARCHIVE_BYTES + 1)
    if len(content) > _MAX_ARCHIVE_BYTES:
        raise OSError(f"larger than {_MAX_ARCHIVE_BYTES} bytes")
    return bytes(content)
