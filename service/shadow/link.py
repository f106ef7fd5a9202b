"""The process of a shadow from the service's side: started, asked, and ended when it takes too long."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from service.shadow.messages import HEAD, MAX_ANSWER, Answered, Asked, Malformed, Start, answer_of

_ROOT: Final = Path(__file__).parents[2]  # where `service` can be imported from
_REAP_SECONDS: Final = 1.0  # for a killed process to be gone


class ShadowFailed(Exception):  # noqa: N818 - the name describes the shadow
    """The process has ended, does not answer in time, or answers with something else."""


class Link:
    """A process that has loaded its bundle; `start` makes one."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process_id = process.pid
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls, start: Start, seconds: float) -> Link:
        """Start a process, and wait until it has loaded the bundle.

        Raises:
            ShadowFailed: it does not within so many seconds.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "service.shadow.process", str(theirs.fileno()), json.dumps(asdict(start)),
                cwd=_ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True,
            )  # fmt: skip
        ours.setblocking(False)
        link = cls(process, *await asyncio.open_unix_connection(sock=ours))
        try:
            async with asyncio.timeout(seconds):
                await link._received()
        except (TimeoutError, ShadowFailed) as error:
            raise ShadowFailed(f"the bundle was not loaded ({error or 'it takes too long'})") from error
        finally:
            if sys.exc_info()[0] is not None:
                await link.close()
        return link

    async def ask(self, batch: Sequence[Asked], seconds: float) -> Answered:
        """Let the shadow score a batch.

        Raises:
            ShadowFailed: there is no answer in time; the process cannot be asked again.
        """
        content = pickle.dumps(list(batch), protocol=pickle.HIGHEST_PROTOCOL)
        try:
            async with asyncio.timeout(seconds):
                self._writer.write(HEAD.pack(len(content)) + content)
                await self._writer.drain()
                return answer_of(await self._received(), len(batch))
        except (TimeoutError, OSError, Malformed) as error:
            raise ShadowFailed(str(error) or f"no answer within {seconds:g} s") from error

    async def close(self) -> None:
        """End the process, in any state."""
        self._writer.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(_REAP_SECONDS):
                await self._process.wait()

    async def _received(self) -> bytes:
        try:
            (size,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            if size > MAX_ANSWER:
                raise ShadowFailed("its answer is too long")
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ShadowFailed("the process has ended") from error
