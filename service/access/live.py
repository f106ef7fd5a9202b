"""The access file on this machine: read at start, and again when it changes; a bad file keeps the last good one."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, Protocol

import structlog

from service.access.access import Access
from service.access.file import MAX_FILE_BYTES, AccessFileError, read_access
from service.errors import StartError
from service.flow.threads import Detached

ReloadResult = Literal["accepted", "unchanged", "unreadable", "invalid"]

_READ_SECONDS: Final = 10.0  # a network mount may hang

_log = structlog.get_logger(__name__)


class Observer(Protocol):
    """Counts what becomes of the file."""

    def access_reloaded(self, result: ReloadResult) -> None:
        """Count a look at the file."""


class AccessSource:
    """Keeps the callers in force equal to a file.

    Args:
        path: of the file.
        access: gets the callers.
        observer: counts looks.
    """

    def __init__(self, path: Path, access: Access, observer: Observer) -> None:
        self._path, self._access, self._observer = path, access, observer
        self._detached = Detached("access-file")
        self._identity = b""  # digest of the bytes that were read last
        self._result: ReloadResult = "unchanged"  # of those bytes
        self._told: list[str] = []  # the problems that the log has
        self._poked = asyncio.Event()

    async def start(self) -> None:
        """Read the file.

        Raises:
            StartError: it cannot be used; without it the service would not know whom to let in.
        """
        problems = await self.look()
        if problems:
            raise StartError(f"RANKER_ACCESS__FILE: {self._path}: {'; '.join(problems)}")

    async def look(self) -> list[str]:
        """Read the file if it has changed; return why it is not in force."""
        try:
            content = await self._detached.run(self._read, _READ_SECONDS)
        except OSError as error:  # TimeoutError too
            return self._refused("unreadable", [f"cannot be read ({error.strerror or 'it takes too long'})"])
        identity = hashlib.sha256(content).digest()
        if identity == self._identity:
            self._observer.access_reloaded(self._result)
            self._told = self._told if self._result == "invalid" else []
            return []
        try:
            file = await asyncio.to_thread(read_access, content)
        except AccessFileError as error:
            self._identity, self._result = identity, "invalid"
            return self._refused("invalid", error.problems)
        self._access.put(file)
        self._identity, self._result, self._told = identity, "unchanged", []
        self._observer.access_reloaded("accepted")
        _log.info("access_file_accepted", callers=len(file.callers), keys=sum(len(one.keys) for one in file.callers))
        return []

    async def watch(self, interval_seconds: float) -> None:
        """Look periodically, and at once when poked; runs until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_seconds):
                    await self._poked.wait()
            self._poked.clear()
            await self.look()

    def poke(self) -> None:
        """Make `watch` look now (SIGHUP)."""
        self._poked.set()

    def _refused(self, result: ReloadResult, problems: list[str]) -> list[str]:
        self._observer.access_reloaded(result)
        if problems != self._told:
            _log.error("access_file_refused", file=str(self._path), result=result, problems=problems)
        self._told = problems
        return problems

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
