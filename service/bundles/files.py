"""A bundle's files: checked by size and digest as a stream, and only then read into memory or mapped.

Each file is opened once. The first pass over all of them keeps one chunk at a time in memory, so a bundle that is too
large or altered costs time but no memory. The second pass reads the same open files and hashes what it keeps: the
bytes that are parsed and run are the checked bytes, even if the files change in between.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

CHUNK_BYTES: Final = 1_048_576

Identity = tuple[tuple[str, int, int, int, int], ...]  # of each file: name, size, times of last change, inode


class BundleError(ValueError):
    """The bundle cannot be served; the message names the file and the reason."""


class UntrustedBundleError(BundleError):
    """No accepted key signed the bundle; nothing of it was parsed."""


class Stamp(NamedTuple):
    """The facts that change when a file is written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int


class MappedFile(NamedTuple):
    """A checked file, mapped for reading, and its stamp of before the check."""

    content: memoryview
    stamp: Stamp


Content = bytes | MappedFile


@contextmanager
def open_directory(directory: Path) -> Iterator[int]:
    """Open a directory; all files are then opened relative to it."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle
    finally:
        os.close(handle)


def read_small(listing: int, name: str, limit: int) -> bytes:
    """Return a file of the open directory that has no promised digest.

    Raises:
        BundleError: missing, not a regular file, or larger than the limit.
    """
    with _open(listing, name) as file:
        if _size(file) > limit:
            raise BundleError(f"{name} takes the bundle over its size limit")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise BundleError(f"{name} takes the bundle over its size limit")
    return content


def read_files(
    listing: int,
    digests: Mapping[str, str],
    room: int,
    *,
    not_held: Collection[str] = (),
    mapped: Collection[str] = (),
) -> dict[str, Content]:
    """Check all files, then return the content of each that is held or mapped.

    Args:
        listing: the open directory.
        digests: SHA-256 in hexadecimal by file name.
        room: maximum bytes of all files together.
        not_held: files that are only checked.
        mapped: files that are mapped instead of read into memory.

    Raises:
        BundleError: one is missing, not a regular file, altered, or all together are too large.
    """
    with ExitStack() as stack:
        files = {name: stack.enter_context(_open(listing, name)) for name in sorted(digests)}
        stamps = {name: stamp_of(os.fstat(file.fileno())) for name, file in files.items()}
        _check_sizes(stamps, room)
        for name, file in files.items():
            if _streamed_digest(file, stamps[name].size) != digests[name]:
                raise BundleError(f"{name} is not the file that the manifest describes (digest differs)")
        return {
            name: _mapped(name, file, stamps[name])
            if name in mapped
            else _held(name, file, stamps[name].size, digests[name])
            for name, file in files.items()
            if name not in not_held
        }


def stamp_of(found: os.stat_result) -> Stamp:
    """Return the stamp of a file."""
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _check_sizes(stamps: Mapping[str, Stamp], room: int) -> None:
    for name, stamp in stamps.items():
        room -= stamp.size
        if room < 0:
            raise BundleError(f"{name} takes the bundle over its size limit")


def identity_of(directory: Path) -> Identity:
    """Return a value that changes when a file of a directory changes, without reading any; empty if there is none."""
    try:
        with os.scandir(directory) as entries:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except NotADirectoryError:
        found = [(directory.name, directory.stat())]
    except OSError:
        return ()
    return tuple(sorted((name, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) for name, one in found))


def _open(listing: int, name: str) -> BinaryIO:
    """Open a regular file of the directory for reading; a link, a pipe or a device is refused at once."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=listing)
    except FileNotFoundError as error:
        raise BundleError(f"{name} is missing") from error
    except OSError as error:
        raise BundleError(f"{name} is a link or cannot be opened ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BundleError(f"{name} is not a regular file")
    return os.fdopen(handle, "rb", buffering=0)


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _streamed_digest(file: BinaryIO, size: int) -> str:
    """Return the digest of a file's first `size` bytes, and of one more if it has grown."""
    found, chunk = hashlib.sha256(), memoryview(bytearray(CHUNK_BYTES))
    left = size + 1
    while left > 0 and (count := file.readinto(chunk[: min(left, CHUNK_BYTES)])):  # type: ignore[attr-defined]
        found.update(chunk[:count])
        left -= count
    return found.hexdigest()


def _mapped(name: str, file: BinaryIO, stamp: Stamp) -> MappedFile:
    """Map a checked file. A write since its stamp was taken is in the mapping, and is visible in the time of change."""
    if not stamp.size:
        raise BundleError(f"{name} is empty")
    content = memoryview(mmap.mmap(file.fileno(), stamp.size, access=mmap.ACCESS_READ))
    if stamp_of(os.fstat(file.fileno())) != stamp:
        raise BundleError(f"{name} changed while it was read")
    return MappedFile(content, stamp)


def _held(name: str, file: BinaryIO, size: int, digest: str) -> bytes:
    """Return a checked file's content: the same bytes, read again from the same open file."""
    file.seek(0)
    parts: list[bytes] = []
    left = size
    while left > 0 and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    if hashlib.sha256(content).hexdigest() != digest:
        raise BundleError(f"{name} changed while it was read")
    return content
