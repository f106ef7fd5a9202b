"""The process of a shadow from the service's side: started, asked, and ended when it takes too long."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict

from service.flow.child_process import ChildProcess
from service.shadow.messages import HEAD, MAX_ANSWER, Answered, Asked, Malformed, Start, answer_of


class ShadowFailed(Exception):  # noqa: N818 - the name describes the shadow
    """The process has ended, does not answer in time, or answers with something else."""


class Link:
    """A process that has loaded its bundle; `start` makes one."""

    def __init__(self, process: ChildProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.process_id = process.pid
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls, start: Start, seconds: float) -> Link:
        """Start a process, and wait until it has loaded the bundle.

        Raises:
            ShadowFailed: it does not within so many seconds.
        """
        try:
            link = await cls._begun(start)
        except OSError as error:  # too many processes or open files, no memory
            raise ShadowFailed(f"no process could be started: {error}") from error
        try:
            async with asyncio.timeout(seconds):
                await link._received()
        except (TimeoutError, ShadowFailed) as error:
            raise ShadowFailed(f"the bundle was not loaded ({error or 'it takes too long'})") from error
        finally:
            if sys.exc_info()[0] is not None:
                await link.close()
        return link

    @classmethod
    async def _begun(cls, start: Start) -> Link:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = (sys.executable, "-m", "service.shadow.process", str(number), json.dumps(asdict(start)))
            try:
                process = ChildProcess(command, descriptors=(number,))
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        return cls(process, *await asyncio.open_unix_connection(sock=ours))

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
        await self._process.end()

    async def _received(self) -> bytes:
        try:
            (size,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            if size > MAX_ANSWER:
                raise ShadowFailed("its answer is too long")
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ShadowFailed("the process has ended") from error
