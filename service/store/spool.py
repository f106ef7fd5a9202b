"""The spool: a folder for events that could not be written before the process ended.

A file has one JSON object per line: the stream's key, the event's text, its labels and a checksum. The next process
that starts with this folder writes the events to their streams, with their ids, and then removes the file
(service/store/replay.py). A file that is still being written or replayed is locked.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple
from zlib import crc32

import orjson
import structlog

from service.store.streams import Entry

_VERSION: Final = 1
_SUFFIX: Final = ".jsonl"
_AT_ONCE: Final = 256  # lines in one write
_MAX_LINE_BYTES: Final = 1_048_576  # a line longer than this is damaged, and read in parts of this size
_NEW_SECONDS: Final = 60  # a file that is empty and newer than this may be about to be locked by its writer

_log = structlog.get_logger(__name__)


class Spooled(NamedTuple):
    """One line of a spool file."""

    stream: str
    event: bytes


class Spool:
    """Writes and reads spool files. Only `save` and `check` are called on a disk that may be full or read-only.

    Args:
        folder: created when needed; several processes may share it.
        max_bytes: of all files in it; events beyond it are not kept.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes

    async def save(self, stream: str, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Keep events for the next start; return those that could not be kept. Never raises."""
        kept = 0
        try:
            kept = await asyncio.to_thread(self._write, stream, entries)
        except Exception as error:  # with any error of the disk, the process must end in order
            _log.error("spool_failed", stream=stream, folder=str(self._folder), error=_reason(error))
        lost = entries[kept:]
        if lost:
            _log.error("spool_lost_events", stream=stream, folder=str(self._folder), kept=kept, lost=len(lost))
        else:
            _log.warning("spool_written", stream=stream, folder=str(self._folder), kept=kept)
        return lost

    def check(self) -> str:
        """Return why events cannot be kept in the folder, "" if they can."""
        there = next(folder for folder in (self._folder, *self._folder.absolute().parents) if folder.exists())
        if there != self._folder:
            return "" if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written"
        try:
            probe = self._folder / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            return _reason(error)
        return ""

    def files(self) -> list[Path]:
        """Return the files, oldest first."""
        return sorted(self._folder.glob(f"*{_SUFFIX}"))

    @contextmanager
    def claimed(self, path: Path) -> Iterator[BinaryIO | None]:
        """Open a file for one process at a time; yields None if another process has it, or is done with it."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            yield None
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield file if _is_whole(path) else None

    def _write(self, stream: str, entries: Sequence[Entry]) -> int:
        """Write a file; return how many of the events, from the first on, are on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        room = self._max_bytes - sum(path.stat().st_size for path in self.files())
        path = self._folder / f"{time.time_ns() // 1_000_000:013d}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        with open(path, "xb", buffering=0, opener=_private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            kept = _written(file, stream, entries, room)
            os.fsync(file.fileno())
            if not kept:
                path.unlink()
        _sync_folder(self._folder)
        return kept


def read_batch(file: BinaryIO, count: int) -> tuple[list[Spooled], int]:
    """Read up to so many lines; return the events of the good ones, and the number of damaged ones."""
    lines = [line for _ in range(count) if (line := file.readline(_MAX_LINE_BYTES))]
    parsed = [_parsed(line) for line in lines]
    good = [one for one in parsed if one is not None]
    return good, len(parsed) - len(good)


def _written(file: Any, stream: str, entries: Sequence[Entry], room: int) -> int:  # Any: an unbuffered binary file
    """Append complete lines as far as the limit and the disk allow; return how many."""
    kept = size = 0
    for start in range(0, len(entries), _AT_ONCE):
        lines = [_line(stream, entry) for entry in entries[start : start + _AT_ONCE]]
        block = b"".join(lines)
        if size + len(block) > room:
            _log.error("spool_full", stream=stream)
            break
        try:
            if file.write(block) != len(block):
                raise OSError("short write")
        except OSError as error:
            _log.error("spool_failed", stream=stream, error=_reason(error))
            file.truncate(size)
            break
        size, kept = size + len(block), kept + len(lines)
    return kept


def _line(stream: str, entry: Entry) -> bytes:
    event, labels = bytes(entry.event).decode(), list(entry.labels)
    content = {"v": _VERSION, "stream": stream, "labels": labels, "event": event}
    return orjson.dumps({**content, "crc": _checksum(stream, labels, event)}, option=orjson.OPT_APPEND_NEWLINE)


def _parsed(line: bytes) -> Spooled | None:
    try:
        content = orjson.loads(line)
        stream, labels, event = content["stream"], content["labels"], content["event"]
        if content["v"] == _VERSION and content["crc"] == _checksum(stream, labels, event):
            return Spooled(stream, event.encode())
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


def _is_whole(path: Path) -> bool:
    """Return whether a file still exists and is not about to be written."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return status.st_size > 0 or time.time() - status.st_mtime > _NEW_SECONDS


def _checksum(stream: object, labels: object, event: object) -> int:
    return crc32(orjson.dumps([stream, labels, event]))


def _private(path: str, flags: int) -> int:
    """Open a file that only this user can read: events name users."""
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    """Make a new name durable: the disk writes a folder's entry separately from the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
