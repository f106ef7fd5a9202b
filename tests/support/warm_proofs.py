"""Checks bundles in forks of an interpreter that has done its imports: a quarter of a second of processor time less.

A service starts `python -m service.inference.proof` for each bundle. Here a process that was forked from the warm
interpreter (tests/support/warm_service.py) forks instead: each proof is a process of its own, which runs the same code
under the same limits and can be killed. Tests of the process itself, and of its start, leave this out.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parents[2]
_NUMBER = struct.Struct("q")


class ForkedProof:
    """A proof that was forked; as much of service/flow/child_process.py as service/inference/prover.py needs."""

    def __init__(self, pid: int, answer: _End, status: _End) -> None:
        self.pid, self._answer, self._status = pid, answer, status
        self._ended = asyncio.create_task(self._wait())

    async def ended(self) -> tuple[int, bytes]:
        """Return the exit status and the answer when the process has ended."""
        return await asyncio.shield(self._ended)

    async def end(self) -> None:
        """Kill it, if it runs."""
        if not self._ended.done():
            os.kill(self.pid, signal.SIGKILL)
            await self.ended()

    async def _wait(self) -> tuple[int, bytes]:
        said = await self._answer.reader.read()
        (status,) = _NUMBER.unpack(await self._status.reader.readexactly(_NUMBER.size))
        self._answer.writer.close()
        self._status.writer.close()
        return os.waitstatus_to_exitcode(status), said


class _End(NamedTuple):
    """The end of a pair of sockets from which this process reads.

    No pipe: uvloop closes the descriptor of a pipe that it was given twice, and a thread may have opened a file of
    that number in between.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def of(cls, end: socket.socket) -> _End:
        return cls(*await asyncio.open_connection(sock=end))


class Forks:
    """Asks the process that forks."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests

    async def start(self, request: bytes, gives_way: bool) -> ForkedProof:
        """Start a proof of a request; none gives way, because tests leave no core free."""
        input_end, given = os.pipe()
        (answers, output_end), (statuses, status_end) = socket.socketpair(), socket.socketpair()
        socket.send_fds(self._requests, [b"prove"], (input_end, output_end.fileno(), status_end.fileno()))
        os.close(input_end)
        output_end.close()
        status_end.close()
        with os.fdopen(given, "wb") as pipe:
            pipe.write(request)
        answer, status = await _End.of(answers), await _End.of(statuses)
        (pid,) = _NUMBER.unpack(await status.reader.readexactly(_NUMBER.size))
        return ForkedProof(pid, answer, status)

    def close(self) -> None:
        """Let the process that forks end."""
        self._requests.close()


def forking() -> socket.socket:
    """Fork the process that forks; it ends when the socket is closed everywhere."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        serve(theirs)
    theirs.close()
    return ours


def serve(requests: socket.socket) -> NoReturn:
    """Fork a proof for each request, and a process that waits for its end; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none of them is waited for
    while True:
        content, descriptors, _, _ = socket.recv_fds(requests, 16, 3)
        if not content:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            _watch(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(input_end: int, output_end: int, status_end: int) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(status_end)
        _prove(input_end, output_end)
    os.close(input_end)
    os.close(output_end)
    with suppress(BrokenPipeError):
        os.write(status_end, _NUMBER.pack(pid))
        os.write(status_end, _NUMBER.pack(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _prove(input_end: int, output_end: int) -> NoReturn:
    from service.inference import proof

    os.setsid()
    os.chdir(ROOT)
    for descriptor, number in ((input_end, 0), (output_end, 1), (os.open(os.devnull, os.O_WRONLY), 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    status = 1
    try:
        status = proof.main()
    finally:
        os._exit(status)
