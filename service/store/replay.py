"""Writes the events of the spool to the streams after the start, while requests are served.

An event keeps its id, so that a reader that gets it twice keeps one (the last process may have written it without
receiving the reply, or ended during a replay).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from service.metrics import Metrics
from service.redis.client import Client
from service.store.spool import Spool, Spooled, read_batch
from service.store.streams import add_command, is_wrong_type

_AT_ONCE: Final = 256
_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)

_log = structlog.get_logger(__name__)


class Kept(NamedTuple):
    """A stream that events of the spool are written to."""

    name: str  # without the prefix of its key
    max_length: int  # entries that it keeps, about


class Replay:
    """Empties the spool once.

    Args:
        spool: the folder of the files.
        client: of the streams' Redis.
        streams: by key; a file with other keys belongs to another environment and is not touched.
        observer: counts.
    """

    def __init__(self, spool: Spool, client: Client, streams: Mapping[str, Kept], observer: Metrics) -> None:
        self._spool, self._client, self._streams, self._observer = spool, client, streams, observer

    async def run(self) -> None:
        """Write every file's events and remove the file; a file that cannot be read stays."""
        for path in await asyncio.to_thread(self._spool.files):
            try:
                await self._replay(path)
            except OSError as error:
                _log.error("spool_unreadable", file=path.name, error=error.strerror)

    async def _replay(self, path: Path) -> None:
        with self._spool.claimed(path) as file:
            if file is None:
                return
            events, damaged = 0, 0
            while True:
                batch, bad = await asyncio.to_thread(read_batch, file, _AT_ONCE)
                if not batch and not bad:
                    break
                if any(one.stream not in self._streams for one in batch):
                    _log.warning("spool_of_another_environment", file=path.name)
                    return
                damaged += bad + await self._write(batch)
                events += len(batch)
            await asyncio.to_thread(path.unlink)
        self._observer.spool_damaged(damaged)
        _log.info("spool_replayed", file=path.name, events=events, damaged=damaged)

    async def _write(self, batch: list[Spooled]) -> int:
        """Write events until Redis has them; return how many it will never accept."""
        refused = failures = 0
        while batch:
            again = []
            replies = await self._try(batch)
            for one, reply in zip(batch, replies, strict=True):
                if is_wrong_type(reply):
                    refused += 1
                elif isinstance(reply, Exception):
                    again.append(one)
                else:
                    self._observer.events_replayed(self._streams[one.stream].name, 1)
            batch = again
            if batch:
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1
        return refused

    async def _try(self, batch: list[Spooled]) -> list[object]:
        streams = self._streams
        commands = [add_command(one.stream.encode(), one.event, streams[one.stream].max_length) for one in batch]
        try:
            return list(await self._client.run(commands))
        except Exception as error:  # Redis is down: the caller waits and tries again
            return [error] * len(batch)
