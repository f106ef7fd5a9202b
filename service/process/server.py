"""The process: a port, uvicorn behind it, and an end that loses no request.

On SIGTERM: not ready at once, and every answer closes its connection, while new ones are still taken for a while,
because balancers learn of it late, and until a successor that has the port too is ready (service/process/handover.py).
Then what the kernel has already accepted is taken too, the port is closed, everything under way is answered, and the
process ends with status 0.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI

from service.connection.protocol import Guard
from service.http.endings import undecided_headers
from service.http.keyed_lane import rank_lane
from service.process.admin import AdminListener
from service.process.ending import ABANDON_SECONDS, LINGER_SECONDS, LatestEnd, longest_end_seconds
from service.process.garbage import rare_collections
from service.process.port import Ports, address_of, begin_listening, open_ports, port_of
from service.process.stopping import SUCCESSOR_SECONDS, Stopping, handling
from service.process.uvicorn_config import uvicorn_config
from service.runtime import Runtime
from service.settings.root import Settings

_START_SECONDS: Final = 2.0  # for closing what had been made when a signal ended the start
_TICK_SECONDS: Final = 0.01

_log = structlog.get_logger(__name__)


def serve(
    app: FastAPI,
    settings: Settings,
    flush_log: Callable[[], None] = lambda: None,
    *,
    passed_sockets: int = 0,
    replaces: bool = False,
) -> None:
    """Serve until a signal or a successor ends it.

    Args:
        app: made by create_app.
        settings: all of them.
        flush_log: writes the last log lines; called where the process has to be ended by force.
        passed_sockets: sockets that a service manager has passed.
        replaces: whether to take the port over from the process that serves there.

    Raises:
        StartError: the port cannot be had, or there is nothing to serve.
    """
    ports = open_ports(settings, passed=passed_sockets, replaces=replaces)
    try:
        Server(app, settings, ports, flush_log).run([ports.callers.listener])
    finally:
        ports.close()


class Server(uvicorn.Server):
    """uvicorn's server, with another beginning and another end.

    Args:
        app: made by create_app; its lifespan is entered before the port answers.
        settings: all of them.
        ports: bound.
        flush_log: writes the last log lines.
    """

    def __init__(self, app: FastAPI, settings: Settings, ports: Ports, flush_log: Callable[[], None]) -> None:
        self._app, self._settings, self._http = app, settings, settings.http
        self._port, self._latest_end = ports.callers, LatestEnd(flush_log)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[Any] | None = None
        self._has_started = self._is_cut_short = False
        self._runtime: Runtime = app.state.runtime
        self._runtime.callers_port = port_of(ports.callers.listener)
        self._lane = rank_lane(self._runtime)
        headers = functools.partial(undecided_headers, self._runtime)
        guard = Guard(settings.http, settings.limits, self._runtime.metrics, headers, self._lane)
        super().__init__(uvicorn_config(app, guard, settings.http))
        self._admin: AdminListener | None = None
        if ports.admin is not None:
            self._admin = AdminListener(app.state.operators, settings, ports.admin, self._runtime)
        self._stopping = Stopping(
            settings.http.drain_delay_ms / 1000,
            self._on_successor,
            asked=self._runtime.metrics.asked,
            longer_seconds=settings.http.drain_while_asked_ms / 1000,
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop.

        Raises:
            StartError: the port cannot be had, or there is nothing to serve.
        """
        with self.capture_signals(), rare_collections(self._runtime.metrics.garbage_collected):
            super().run(sockets)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop; a signal ends the start too, since nothing has been accepted yet."""
        self._loop, self._starting = asyncio.get_running_loop(), asyncio.current_task()
        try:
            if not self._stopping.has_signal:
                async with self._app.router.lifespan_context(self._app):
                    self._has_started = True
                    await self._serve(sockets)
        except asyncio.CancelledError:
            if self._starting is None or not self._is_cut_short:
                raise
            self._starting.uncancel()
        finally:
            if self._admin is not None:
                await self._admin.close()
        _log.info("stopped")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals on the event loop; unlike uvicorn, never raise them again: a graceful end is not a failure."""
        with handling(self._on_signal):
            try:
                yield
            finally:
                self._latest_end.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port."""
        listeners = sockets or []
        for listener in listeners:
            begin_listening(listener, self.config.backlog)
        await super().startup(sockets)
        for listener in listeners:
            _log.info("listening", address=address_of(listener))
        if self._admin is not None:
            await self._admin.open()
        self._port.ready()
        self._stopping.open_door(self._port.listener, is_stopping=lambda: self._runtime.is_draining)

    async def main_loop(self) -> None:
        """Wait until the port is to be closed."""
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what has been accepted, close the port, answer everything, within the drain timeout."""
        loop = asyncio.get_running_loop()
        await self._close_port(sockets or [])
        self._stopping.close_door()
        await self._until(lambda: not self.server_state.connections, loop.time() + LINGER_SECONDS)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = loop.time() + self._http.drain_timeout_ms / 1000
        await self._until(lambda: not self.server_state.connections and not self.server_state.tasks, deadline)
        await self._abandon()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stopping.on_signal(number, self._loop, self._reload if number == signal.SIGHUP else self._stop)

    def _reload(self) -> None:
        self._runtime.reload()

    def _stop(self) -> None:
        self._runtime.drain()
        self._stopping.tell()
        if self._has_started or self._starting is None:
            if not self._latest_end.is_set:
                self._latest_end.within(longest_end_seconds(self._settings))
            return
        self._latest_end.within(_START_SECONDS)
        self._is_cut_short = True
        self._starting.cancel()

    def _on_successor(self) -> None:
        """Stop when a successor is ready; while it loads, the end may come later."""
        if self._stopping.is_succeeded:
            self._runtime.is_succeeded = True
            self._runtime.drain()
            self._latest_end.within(longest_end_seconds(self._settings))
        elif self._runtime.is_draining:
            self._latest_end.within(SUCCESSOR_SECONDS + longest_end_seconds(self._settings))
        if self._runtime.is_draining:
            self._stopping.tell()

    async def _close_port(self, listeners: list[socket.socket]) -> None:
        """Close the port without losing a caller: closing a listener resets connections that wait in the kernel.

        The loop lets go of the listener first, while a duplicate keeps it open; then all who wait are accepted, and the
        last descriptor is closed at the moment when none waits.
        """
        duplicates = [listener.dup() for listener in listeners]
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        await asyncio.sleep(_TICK_SECONDS)  # the loop closes its own descriptor a little later
        accepted: list[socket.socket] = []
        for duplicate in duplicates:
            with duplicate, suppress(OSError):
                while True:
                    accepted.append(duplicate.accept()[0])
        for connection in accepted:
            connection.setblocking(False)
            await self._connect(connection)

    async def _connect(self, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        parts: dict[str, Any] = {"config": self.config, "server_state": self.server_state, "app_state": {}}  # uvicorn's
        made: asyncio.Protocol = self.config.http_protocol_class(**parts)
        return made

    async def _until(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Wait for the last requests; a second signal ends the waiting."""
        loop = asyncio.get_running_loop()
        while not is_done() and loop.time() < deadline and not self._stopping.is_hurried:  # noqa: ASYNC110
            await asyncio.sleep(_TICK_SECONDS)  # uvicorn's sets of connections and tasks do not report changes

    async def _abandon(self) -> None:
        """Refuse what would not end; its callers are told to come again."""
        tasks = list(self.server_state.tasks)
        short = self._lane.stop()
        if tasks or short:
            _log.error("abandoned", requests=len(tasks) + short)
        if tasks:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=ABANDON_SECONDS)
