"""The parent of several workers behind one port: starts them, keeps them going, and ends them together.

It opens the port, which the workers inherit, and accepts nothing itself. It imports no library that takes memory or
starts threads. Signals, successors and the drain are those of a process of its own (service/process/server.py).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Final

import structlog

from service.errors import StartError
from service.process.channel import Verb
from service.process.child import BEAT_SECONDS, HUNG_SECONDS, Child
from service.process.ending import longest_end_seconds
from service.process.handover import Door
from service.process.port import Ports, address_of, begin_listening, open_ports
from service.process.sharing import Counts
from service.process.stopping import Stopping, handling
from service.settings.root import Settings

_PAUSES: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a worker is started again
_LONG_LIFE_SECONDS: Final = 60.0  # a worker that lived so long is started again without a pause
_SLACK_SECONDS: Final = 2.0  # more than a worker gives itself for its end
_REPORT_SECONDS: Final = 0.5  # for a worker's report; a later one is not waited for

_log = structlog.get_logger(__name__)


def supervise(settings: Settings, *, passed_sockets: int = 0, replaces: bool = False) -> None:
    """Serve with several workers until a signal or a successor ends it.

    Args:
        settings: all of them; `http.workers` is the number of workers.
        passed_sockets: sockets that a service manager has passed.
        replaces: whether to take the port over from the process that serves there.

    Raises:
        StartError: the port cannot be had, or a worker cannot start.
    """
    ports = open_ports(settings, passed=passed_sockets, replaces=replaces)
    try:
        Supervisor(settings, ports).run()
    finally:
        ports.close()


class Supervisor:
    """See the module.

    Args:
        settings: all of them.
        ports: bound.
    """

    def __init__(self, settings: Settings, ports: Ports) -> None:
        self._settings, self._port, self._admin = settings, ports.callers, ports.admin
        self._count = settings.http.workers
        self._counts = Counts.make(self._count)
        self._serving: dict[int, Child] = {}
        self._living: set[Child] = set()  # those that serve, load, or end
        self._ending: list[Child] = []  # those in whose place another one serves
        self._restarts = [0] * self._count
        self._is_draining = False
        self._stopping = Stopping(settings.http.drain_delay_ms / 1000, self._on_successor)
        self._admin_door: Door | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._keeping: list[asyncio.Task[None]] = []
        self._others: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Serve until told to stop.

        Raises:
            StartError: a worker cannot start.
        """
        with handling(self._on_signal):
            if not self._stopping.has_signal:
                asyncio.run(self._run())
        _log.info("stopped")

    async def _run(self) -> None:
        self._loop, self._starting = asyncio.get_running_loop(), asyncio.create_task(self._start())
        try:
            await asyncio.wait([self._starting])
            if not self._starting.cancelled():
                self._starting.result()
                self._keeping = [asyncio.create_task(self._keep(number)) for number in range(self._count)]
                await self._stopping.wait()
                self._stop_keeping()
        finally:
            await self._end()

    # --- the start

    async def _start(self) -> None:
        """Start one worker, then all others at once, and open the port: what fails, fails once."""
        await self._start_first(0)
        await asyncio.gather(*(self._start_first(number) for number in range(1, self._count)))
        listener = self._port.listener
        for port in (self._port, self._admin):
            if port is not None:
                begin_listening(port.listener, self._settings.http.backlog)
        self._tell(Verb.LISTEN)
        _log.info("listening", address=address_of(listener), workers=self._count)
        self._open_admin_door()
        self._port.ready()
        self._stopping.open_door(listener, is_stopping=lambda: self._is_draining)

    def _open_admin_door(self) -> None:
        if self._admin is None:
            return
        _log.info("listening_for_operators", address=address_of(self._admin.listener))
        self._admin.ready()
        self._admin_door = Door(
            self._admin.listener, is_stopping=lambda: self._is_draining, on_change=self._on_admin_successor
        )
        self._admin_door.open()

    async def _start_first(self, number: int) -> None:
        child = self._serving[number] = await self._spawn(number)
        if not await child.loads():
            raise StartError(f"worker {number} did not start ({child.end}); the lines above say why")

    async def _spawn(self, number: int) -> Child:
        admin = -1 if self._admin is None else self._admin.listener.fileno()
        descriptors = (self._port.listener.fileno(), self._counts.descriptor, admin)
        options = ("--workers", str(self._count))
        child = await Child.start(number, options, descriptors, self._answer)
        self._living.add(child)
        return child

    # --- while it serves

    async def _keep(self, number: int) -> None:
        """Keep one worker going: start another when it has ended, or is about to."""
        failures = -1
        while True:
            child = self._serving[number]
            await child.is_lost()
            if not child.is_alive:
                self._gone(child)
                _log.error("worker_died", worker=number, process_id=child.process_id, reason=child.end)
            failures = 0 if child.age_seconds() > _LONG_LIFE_SECONDS else failures + 1
            while not await self._start_again(child, _PAUSES[min(failures, len(_PAUSES) - 1)]):
                failures += 1

    async def _start_again(self, old: Child, pause_seconds: float) -> bool:
        """Start a worker in place of another; return whether it serves."""
        await asyncio.sleep(pause_seconds)
        number = old.number
        try:
            child = await self._spawn(number)
        except OSError as error:
            _log.error("worker_not_started", worker=number, reason=error.strerror)
            return False
        if not await child.loads() or not (old.is_alive or await self._bequeath(old, child)):
            self._living.discard(child)
            _log.error("worker_not_started", worker=number, reason=child.end)
            return False
        self._serving[number] = child
        self._restarts[number] += 1
        child.say(Verb.LISTEN)
        _log.info("worker_started", worker=number, process_id=child.process_id)
        if old.is_alive:
            self._do(self._retire(old))
        return True

    async def _bequeath(self, old: Child, child: Child) -> bool:
        """Have a worker count on from one that has ended; return whether its report shows it."""
        child.say(Verb.INHERIT, self._described(old))
        return await child.ask(HUNG_SECONDS)

    async def _retire(self, child: Child) -> None:
        self._ending.append(child)
        child.say(Verb.SUCCEEDED)
        child.say(Verb.DRAIN)
        child.say(Verb.CLOSE)
        await child.end_by(longest_end_seconds(self._settings) + _SLACK_SECONDS)
        self._living.discard(child)
        while not await self._bequeath(child, self._serving[child.number]):  # noqa: ASYNC110 - it may end meanwhile
            await asyncio.sleep(BEAT_SECONDS)
        self._ending.remove(child)

    def _gone(self, child: Child) -> None:
        self._living.discard(child)
        self._counts.leave(child.number)

    def _answer(self, asker: Child, verb: Verb) -> None:
        """Send a worker the reports of all, or the slowest rankings of all."""
        self._do(self._report(asker) if verb == Verb.REPORTS else self._show_slow(asker))

    async def _show_slow(self, asker: Child) -> None:
        lists = await asyncio.gather(*(child.ask_slow(_REPORT_SECONDS) for child in self._living))
        asker.say(Verb.SLOW, b"[%s]" % b",".join(lists))

    async def _report(self, asker: Child) -> None:
        children = [*(child for _, child in sorted(self._serving.items())), *self._ending]
        await asyncio.gather(*(child.ask(_REPORT_SECONDS) for child in children))
        reports = [self._described(child) for child in children]
        asker.say(Verb.REPORTS, b"[%s]" % b",".join(reports))

    def _described(self, child: Child) -> bytes:
        head = b'{"worker":%d,"process_id":%d,"restarts":%d,"is_alive":%s,"report":%s}'
        is_alive = b"true" if child.is_alive else b"false"
        return head % (child.number, child.process_id, self._restarts[child.number], is_alive, child.report)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    # --- signals, successors, the end

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stopping.on_signal(number, self._loop, self._reload if number == signal.SIGHUP else self._stop)

    def _reload(self) -> None:
        self._tell(Verb.RELOAD)

    def _stop(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            return
        self._drain()
        if self._stopping.is_hurried:
            self._tell(Verb.HURRY)

    def _on_successor(self) -> None:
        if self._stopping.is_succeeded:
            self._tell(Verb.SUCCEEDED)
            self._drain()
        elif self._is_draining:
            self._stopping.tell()

    def _on_admin_successor(self) -> None:
        if self._admin_door is not None and self._admin_door.is_succeeded:
            self._tell(Verb.SUCCEEDED)

    def _drain(self) -> None:
        if not self._is_draining:
            self._is_draining = True
            self._stop_keeping()
            self._tell(Verb.DRAIN)
        self._stopping.tell()

    def _stop_keeping(self) -> None:
        for task in self._keeping:
            task.cancel()

    async def _end(self) -> None:
        """Close the port, which the workers do too, and wait for them: the last one takes what the kernel accepted."""
        self._port.close()
        self._stopping.close_door()
        for child in self._living:
            if not child.is_ready.is_set():
                child.send(signal.SIGTERM)  # it may not have come to the channel yet
            child.say(Verb.CLOSE)
        seconds = longest_end_seconds(self._settings) + _SLACK_SECONDS
        await asyncio.gather(*(child.end_by(seconds) for child in self._living))
        if self._admin_door is not None:
            self._admin_door.close()

    def _tell(self, verb: Verb) -> None:
        for child in self._living:
            child.say(verb)
