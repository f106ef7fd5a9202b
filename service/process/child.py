"""One worker from the supervisor's side: started, commanded, asked for reports, and ended."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from service.process.channel import Channel, Verb

BEAT_SECONDS: Final = 1.0  # between requests for its report
HUNG_SECONDS: Final = 30.0  # without an answer: as long as a liveness probe of Kubernetes takes by default
_LAST_SECONDS: Final = 1.0  # for the last output of a process

_log = structlog.get_logger(__name__)


class Child:
    """A worker process.

    Args:
        number: of the worker, from 0 on.
        process: started.
        channel: to it.
        on_question: called with this object and a verb when the worker asks how all workers are, or for the slowest
            rankings of all.
    """

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        channel: Channel,
        on_question: Callable[[Child, Verb], None],
    ) -> None:
        self.number, self._process, self._channel, self._on_question = number, process, channel, on_question
        self.process_id = process.pid
        self._born = time.monotonic()
        self.is_ready, self.is_leaving = asyncio.Event(), asyncio.Event()
        self.report = b"{}"
        self._asked: deque[asyncio.Future[bool]] = deque()
        self._asked_slow: deque[asyncio.Future[bytes]] = deque()
        self._listening = asyncio.create_task(self._listen())
        self._tasks = [self._listening, asyncio.create_task(self._beat())]

    @classmethod
    async def start(
        cls, number: int, options: Sequence[str], descriptors: Sequence[int], on_question: Callable[[Child, Verb], None]
    ) -> Child:
        """Start a worker, a new interpreter with nothing of this process but some descriptors.

        Args:
            number: of the worker.
            options: for the command line.
            descriptors: that it inherits and its command line names, after the number and the channel's; -1 is none.
            on_question: as above.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            numbers = [number, theirs.fileno(), *descriptors]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *_interpreter_options(), "-m", "service", *options),
                *("--worker", *map(str, numbers)),
                pass_fds=[number for number in numbers[1:] if number >= 0],
            )
        return cls(number, process, await Channel.open(ours), on_question)

    @property
    def is_alive(self) -> bool:
        """Return whether the process has not ended."""
        return self._process.returncode is None

    @property
    def end(self) -> str:
        """Return how the process ended."""
        status = self._process.returncode
        if status is None:
            return "it runs"
        return f"status {status}" if status >= 0 else signal.Signals(-status).name

    def age_seconds(self) -> float:
        """Return how long ago it was started."""
        return time.monotonic() - self._born

    def say(self, verb: Verb, content: bytes = b"") -> None:
        """Tell it what to do."""
        self._channel.say(verb, content)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def loads(self) -> bool:
        """Wait until everything is loaded and the first report is there; return False when the process ends first."""
        await _first(self.is_ready.wait(), self.ended())
        return self.is_alive and await self.ask(HUNG_SECONDS) and self.is_alive

    async def is_lost(self) -> None:
        """Wait until it has ended, or got a signal to do so."""
        await _first(self.is_leaving.wait(), self.ended())

    async def ended(self) -> None:
        """Wait until the process has ended, and let go of it."""
        await self._process.wait()
        await asyncio.wait([self._listening], timeout=_LAST_SECONDS)
        for task in self._tasks:
            task.cancel()
        self._channel.close()
        while self._asked:
            self._asked.popleft().set_result(False)
        while self._asked_slow:
            self._asked_slow.popleft().set_result(b"[]")

    async def end_by(self, seconds: float) -> None:
        """Wait until the process has ended; kill it when that takes too long."""
        try:
            await asyncio.wait_for(self.ended(), seconds)
        except TimeoutError:
            _log.error("worker_killed", worker=self.number, process_id=self.process_id)
            self.send(signal.SIGKILL)
            await self.ended()

    async def ask(self, seconds: float) -> bool:
        """Ask for a report that is made after this call; return whether it came in time."""
        asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self.is_alive:
            return False
        self._asked.append(asked)
        self.say(Verb.REPORT)
        await asyncio.wait([asked], timeout=seconds)
        return asked.done() and asked.result()

    async def ask_slow(self, seconds: float) -> bytes:
        """Ask for its slowest rankings; return a JSON array, an empty one if it does not answer in time."""
        asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if not self.is_alive:
            return b"[]"
        self._asked_slow.append(asked)
        self.say(Verb.SLOW)
        await asyncio.wait([asked], timeout=seconds)
        return asked.result() if asked.done() else b"[]"

    async def _listen(self) -> None:
        async for message in self._channel.messages():
            if message.verb == Verb.READY:
                self.is_ready.set()
            elif message.verb == Verb.LEAVING:
                self.is_leaving.set()
            elif message.verb == Verb.REPORTS or (message.verb == Verb.SLOW and not message.content):
                self._on_question(self, message.verb)
            elif message.verb == Verb.SLOW and self._asked_slow:
                self._asked_slow.popleft().set_result(message.content)
            elif message.verb == Verb.REPORT:
                self.report = message.content
                if self._asked:  # the last report of a worker that ends comes without a question
                    self._asked.popleft().set_result(True)  # answers come in the order of the questions

    async def _beat(self) -> None:
        """Ask for a report again and again; kill a worker that does not answer: its event loop does not run."""
        await self.is_ready.wait()
        while await self.ask(HUNG_SECONDS):  # noqa: ASYNC110 - a pace, not a condition
            await asyncio.sleep(BEAT_SECONDS)
        _log.error("worker_hung", worker=self.number, process_id=self.process_id, seconds=HUNG_SECONDS)
        self.send(signal.SIGKILL)


async def _first(*works: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is done, and end the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _interpreter_options() -> list[str]:
    """Return the arguments between the interpreter and `-m`, such as `-X dev`."""
    words = sys.orig_argv
    return words[1 : words.index("-m")] if "-m" in words else []
