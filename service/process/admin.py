"""The port of operators, if they have their own: a second listener on the same event loop, with the same state.

It opens with the port of callers and stays open to the end of the process, so that health checks and the last scrape
are answered during the drain. When a successor that has the port too is ready, it is closed at once: else every second
health check would hear that the service is draining.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog
from fastapi import FastAPI
from uvicorn.server import ServerState

from service.connection.protocol import Guard
from service.http.endings import undecided_headers
from service.process.handover import Door
from service.process.port import Port, address_of, begin_listening
from service.process.uvicorn_config import uvicorn_config
from service.runtime import Runtime
from service.settings.root import Settings

_MAX_CONNECTIONS: Final = 128
_MAX_UNSENT_BYTES: Final = 16 * 1024 * 1024
_LAST_SECONDS: Final = 0.5  # for answers in progress, when everything else has ended
_TICK_SECONDS: Final = 0.01

_log = structlog.get_logger(__name__)


class AdminListener:
    """See the module.

    Args:
        app: the operators' routes.
        settings: limits of connections and requests.
        port: bound.
        runtime: the service's state.
    """

    def __init__(self, app: FastAPI, settings: Settings, port: Port, runtime: Runtime) -> None:
        limits = {"max_connections": _MAX_CONNECTIONS, "max_unsent_bytes": _MAX_UNSENT_BYTES}
        http = settings.http.model_copy(update=limits)
        guard = Guard(
            http, settings.limits, runtime.metrics, lambda: undecided_headers(runtime), counts=False, makes_room=True
        )
        self._config = uvicorn_config(app, guard, http)
        self._state, self._port = ServerState(), port
        self._door = Door(port.listener, is_stopping=lambda: runtime.is_draining, on_change=self._on_successor)
        self._server: asyncio.Server | None = None

    async def open(self, *, has_door: bool = True) -> None:
        """Accept connections.

        Args:
            has_door: whether this process hands the socket to successors; the supervisor of workers does it for them.

        Raises:
            StartError: another process listens there.
        """
        self._config.load()
        loop, listener = asyncio.get_running_loop(), self._port.listener
        begin_listening(listener, self._config.backlog)
        self._server = await loop.create_server(self._protocol, sock=listener, backlog=self._config.backlog)
        if has_door:
            _log.info("listening_for_operators", address=address_of(listener))
            self._port.ready()
            self._door.open()

    def leave_the_port(self) -> None:
        """Accept nothing more: another process answers there."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close(self) -> None:
        """Close the port and all connections; what is being answered has a moment left."""
        self.leave_the_port()
        self._door.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LAST_SECONDS
        while self._state.connections and loop.time() < deadline:  # noqa: ASYNC110 - uvicorn's set reports no change
            await asyncio.sleep(_TICK_SECONDS)

    def _on_successor(self) -> None:
        if self._door.is_succeeded:
            self.leave_the_port()

    def _protocol(self) -> asyncio.Protocol:
        parts: dict[str, Any] = {"config": self._config, "server_state": self._state, "app_state": {}}  # uvicorn's
        made: asyncio.Protocol = self._config.http_protocol_class(**parts)
        return made
