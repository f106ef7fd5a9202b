"""Forks a process for each proof of a bundle, so that a proof needs no imports of its own.

A new interpreter takes a quarter of a second of processor time until it can begin; a fork takes some milliseconds. The
server itself is forked from the service, before that has threads and connections. It shares the memory of the imports,
has nothing else open, and ends with the service (ADR 0367).

A message to it is a request and one end of a pair of sockets. There the proof writes its answer, and the server then
the exit status. A service that is gone, or that closes its end for writing, ends the proof.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from service.flow.child_process import REAP_SECONDS, give_way
from service.inference import proof

_MOST_BYTES: Final = 1 << 16  # of a request
_NO_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the service decides


class ServerGoneError(OSError):
    """The server has ended; the kernel may have ended it when memory ended."""


class ForkServer:
    """The service's end.

    Args:
        requests: a socket whose other end `become` has.
        pid: of the server.
    """

    def __init__(self, requests: socket.socket, pid: int) -> None:
        self._requests, self.pid = requests, pid

    @classmethod
    @contextmanager
    def begun(cls) -> Iterator[ForkServer | None]:
        """Fork the server, which ends with the block; None where forks are not safe with the system's libraries.

        Call it while the process has one thread.
        """
        if sys.platform != "linux":
            yield None
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            become(theirs.detach())
        theirs.close()
        server = cls(ours, pid)
        try:
            yield server
        finally:
            server.close()

    async def start(self, request: bytes) -> ForkedProof:
        """Start a proof, which gives way.

        Args:
            request: a proof.ProofRequest as JSON.

        Raises:
            ServerGoneError: the server has ended.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._requests, [request], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise ServerGoneError(str(error)) from error
        return ForkedProof(*await asyncio.open_connection(sock=ours))

    def close(self) -> None:
        """Let the server end, and a proof that runs."""
        self._requests.close()
        with suppress(ChildProcessError):  # forked by another process
            os.waitpid(self.pid, os.WNOHANG)


class ForkedProof:
    """A proof that was started; it does what service/flow/child_process.py does for new interpreters."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._output = asyncio.create_task(reader.read())

    async def ended(self) -> tuple[int, bytes]:
        """Wait until it has ended; return its status, minus a signal's number, and its answer.

        Raises:
            ServerGoneError: the server ended before the proof.
        """
        answer, line_end, status = (await asyncio.shield(self._output)).rpartition(b"\n")
        if not line_end or not status:  # the proof may have answered
            raise ServerGoneError("it ended before the proof")
        return int(status), answer

    async def end(self) -> None:
        """Kill it, if it runs."""
        if not self._output.done():
            self._writer.write_eof()
            await asyncio.wait([self._output], timeout=REAP_SECONDS)
            self._output.cancel()
        self._writer.close()


def become(requests: int) -> NoReturn:
    """Be the server from now on, until the other end of the socket is closed."""
    try:
        _leave_service(requests)
        with socket.socket(fileno=requests) as messages:
            while _try_next(messages):
                pass
    finally:
        os._exit(0)


def _leave_service(requests: int) -> None:
    """Keep only a socket; a terminal's signals are not for this process."""
    os.setpgid(0, 0)
    for number in _NO_ENDS:
        signal.signal(number, signal.SIG_IGN)
    _keep_open(requests)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.close(null)
    with suppress(OSError):
        Path("/proc/self/comm").write_text("ranker-proofs", encoding="ascii")


def _keep_open(*descriptors: int) -> None:
    """Close all others but the standard streams."""
    first = 3
    for descriptor in sorted(descriptors):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def _try_next(messages: socket.socket) -> bool:
    content, descriptors, _, _ = socket.recv_fds(messages, _MOST_BYTES, 1)
    if not content:
        return False
    for descriptor in descriptors:  # none if this process has too many open: the service then sees its end closed
        with socket.socket(fileno=descriptor) as answers:
            try:
                _try(content, answers)
            except OSError as error:  # too many processes or open files, no memory: it may work the next time
                _refuse(answers, error)
    return True


def _refuse(answers: socket.socket, error: OSError) -> None:
    refusal = {"refused": f"no process could be started to try it: {error}", "for_good": False}
    with suppress(OSError):  # the service has given up
        answers.sendall(json.dumps(refusal).encode() + b"\n0")


def _try(request: bytes, answers: socket.socket) -> None:
    alive, until_its_end = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(alive)
        os.close(until_its_end)
        raise
    if pid == 0:
        _become_proof(request, answers.fileno(), until_its_end)
    os.close(until_its_end)
    poll = select.poll()
    poll.register(alive, 0)  # tells its end
    poll.register(answers, select.POLLRDHUP)
    if poll.poll()[0][0] != alive:
        os.kill(pid, signal.SIGKILL)
    os.close(alive)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):  # the service has given up
        answers.sendall(b"\n%d" % os.waitstatus_to_exitcode(status))


def _become_proof(request: bytes, answers: int, until_its_end: int) -> NoReturn:
    status = 1
    try:
        for number in _NO_ENDS:
            signal.signal(number, signal.SIG_DFL)
        _keep_open(answers, until_its_end)
        give_way(0)
        gc.enable()
        with os.fdopen(answers, "wb") as output:
            output.write(proof.answered(request))
        status = 0
    finally:
        os._exit(status)
