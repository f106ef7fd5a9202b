"""One of several processes behind one port, which follows the supervisor (service/process/supervisor.py).

It differs from a process of its own in four things: it opens the port when all are ready, it leaves connections to
workers that have fewer, the supervisor decides when it stops, and it reports.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI

from service.http.slow_routes import slow_json
from service.process.channel import Channel, Message, Verb
from service.process.inherited import Inherited
from service.process.port import Port, Ports
from service.process.server import Server
from service.process.sharing import Acceptor, CountedConnections, Counts
from service.settings.root import Settings

_ASK_SECONDS: Final = 2.0  # for the reports of all workers

_log = structlog.get_logger(__name__)


def serve_as_worker(app: FastAPI, settings: Settings, flush_log: Callable[[], None], inherited: Inherited) -> None:
    """Serve until the supervisor ends it, or has ended.

    Raises:
        StartError: there is nothing to serve.
    """
    ports = Ports(
        _inherited_port(inherited.listener), _inherited_port(inherited.admin) if inherited.admin >= 0 else None
    )
    try:
        with socket.socket(fileno=inherited.channel) as channel:
            WorkerServer(app, settings, ports, flush_log, inherited, channel).run([ports.callers.listener])
    finally:
        ports.close()


def _inherited_port(descriptor: int) -> Port:
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    return Port(listener)


class WorkerServer(Server):
    """The server of one worker."""

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        ports: Ports,
        flush_log: Callable[[], None],
        inherited: Inherited,
        end: socket.socket,
    ) -> None:
        super().__init__(app, settings, ports, flush_log)
        self._end, self._counts, self._worker = end, Counts(inherited.counts), inherited.worker
        self._connections = CountedConnections(self._counts, self._worker)
        self.server_state.connections = self._connections
        gives_way = functools.partial(self._counts.has_most, self._worker)
        self._acceptor = Acceptor(ports.callers.listener, gives_way, self._connect)
        self._channel: Channel | None = None
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._asked_slow: deque[asyncio.Future[bytes]] = deque()
        self._showing: set[asyncio.Task[None]] = set()
        self._runtime.workers.ask, self._runtime.workers.ask_slow = self._ask, self._ask_slow
        self._may_listen, self._must_close = asyncio.Event(), asyncio.Event()
        self._orders: dict[Verb, Callable[[], None]] = {
            Verb.LISTEN: self._may_listen.set,
            Verb.DRAIN: self._runtime.drain,
            Verb.CLOSE: self._close,
            Verb.HURRY: self._hurry,
            Verb.RELOAD: self._reload,
            Verb.SUCCEEDED: self._succeeded,
        }

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, and listen to the supervisor meanwhile."""
        self._channel = await Channel.open(self._end)
        obeying = asyncio.create_task(self._obey(self._channel))
        try:
            await super().serve(sockets)
        finally:
            obeying.cancel()
            self._say(Verb.REPORT, self._runtime.workers.report())
            await self._channel.finish()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Report that everything is loaded, and accept on the supervisor's command."""
        self._say(Verb.READY)
        await self._may_listen.wait()
        if self.should_exit:
            return
        await uvicorn.Server.startup(self, [])
        self._connections.is_counted = True
        self._connections.write()
        self._acceptor.start()
        if self._admin is not None:
            await self._admin.open(has_door=False)

    async def main_loop(self) -> None:
        """Wait until the supervisor closes the port."""
        await self._must_close.wait()
        self._connections.is_counted = False
        self._acceptor.stop()

    def _on_signal(self, number: int, frame: Any) -> None:
        """End a start as any process does; later the supervisor decides, which may have got the same signal."""
        if number == signal.SIGHUP or not self._has_started or self._loop is None:
            super()._on_signal(number, frame)
        else:
            self._loop.call_soon_threadsafe(self._say, Verb.LEAVING)

    async def _obey(self, channel: Channel) -> None:
        """Follow the supervisor's commands; end when it ends, or on an error: it would take the worker for hung."""
        try:
            async for message in channel.messages():
                self._take(message)
            _log.error("supervisor_gone")
        except Exception:
            _log.exception("worker_failed")
        self._close()

    def _take(self, message: Message) -> None:
        if message.verb == Verb.REPORT:
            self._say(Verb.REPORT, self._runtime.workers.report())
        elif message.verb == Verb.INHERIT:
            self._runtime.workers.inherit(message.content)
        elif message.verb == Verb.REPORTS:
            self._asked.popleft().set_result(message.content)  # answers come in the order of the questions
        elif message.verb == Verb.SLOW:
            self._take_slow(message.content)
        else:
            self._orders[message.verb]()

    def _take_slow(self, content: bytes) -> None:
        """Take the answer to our question; without content it is the supervisor's."""
        if content:
            self._asked_slow.popleft().set_result(content)
            return
        task = asyncio.create_task(self._show_slow())
        self._showing.add(task)
        task.add_done_callback(self._showing.discard)

    async def _show_slow(self) -> None:
        slow = self._runtime.slow
        self._say(Verb.SLOW, b"[]" if slow is None else await asyncio.to_thread(slow_json, slow))

    async def _ask(self) -> bytes:
        """Return the reports of all workers; TimeoutError if the supervisor does not answer."""
        asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._say(Verb.REPORTS)
        return await asyncio.wait_for(asyncio.shield(asked), _ASK_SECONDS)

    async def _ask_slow(self) -> bytes:
        """Return the slowest rankings of each worker; TimeoutError if the supervisor does not answer."""
        asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked_slow.append(asked)
        self._say(Verb.SLOW)
        return await asyncio.wait_for(asyncio.shield(asked), _ASK_SECONDS)

    def _say(self, verb: Verb, content: bytes = b"") -> None:
        if self._channel is not None:
            self._channel.say(verb, content)

    def _close(self) -> None:
        """Close the port and end; a start ends at once, since nothing has been accepted."""
        self.should_exit = not self._may_listen.is_set()
        self._may_listen.set()
        self._must_close.set()
        self._stop()

    def _succeeded(self) -> None:
        self._runtime.is_succeeded = True
        if self._admin is not None:
            self._admin.leave_the_port()

    def _hurry(self) -> None:
        self._stopping.note(signal.SIGTERM)
        self._stopping.note(signal.SIGTERM)

    async def _connect(self, connection: socket.socket) -> None:
        self._connections.write(more=1)
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
