"""The process: a port, uvicorn behind it, and an end that loses no request.

On SIGTERM: not ready at once, and every answer closes its connection, while new ones are still taken for a while,
because balancers learn of it late. Then what the kernel has already accepted is taken too, the port is closed,
everything under way is answered, and the process ends with status 0.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI

from service.exchange import Headers
from service.middleware import bucket_headers
from service.protocol import Guard, GuardedProtocol
from service.runtime import Runtime
from service.settings import Settings

LINGER_SECONDS: Final = 1.0  # for requests that are on their way over connections we have
_ABANDON_SECONDS: Final = 1.0  # for refusals to what would not end
_TICK_SECONDS: Final = 0.01
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger(__name__)


def serve(app: FastAPI, settings: Settings) -> None:
    """Serve until a signal says otherwise.

    Raises:
        OSError: the port cannot be had.
        StartError: there is nothing to serve.
    """
    with listen(settings.http.host, settings.http.port) as listener:
        Server(app, settings).run([listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises:
        OSError: the address cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


class Server(uvicorn.Server):
    """uvicorn's server, with another beginning and another end.

    Args:
        app: made by create_app; its lifespan is entered before the port answers.
        settings: of the port.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._app, self._http = app, settings.http
        self._runtime: Runtime = app.state.runtime
        guard = Guard(settings.http, settings.limits, self._runtime.metrics, self._refusal_headers)
        super().__init__(
            uvicorn.Config(
                app,
                http=functools.partial(GuardedProtocol, guard),  # type: ignore[arg-type]  # called as a class is
                ws="none",
                lifespan="off",
                loop="uvloop",
                backlog=settings.http.backlog,
                timeout_keep_alive=settings.http.keep_alive_ms / 1000,  # type: ignore[arg-type]  # seconds, used as such
                server_header=False,
                date_header=False,
                access_log=False,
                log_config=None,
                proxy_headers=False,
            )
        )
        self._stopping: list[signal.Signals] = []
        self._told = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop.

        Raises:
            StartError: there is nothing to serve.
        """
        with self.capture_signals():
            async with self._app.router.lifespan_context(self._app):
                if not self._stopping:
                    await self._serve(sockets)
        _log.info("stopped")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals on the event loop; unlike uvicorn, never raise them again: a graceful end is no failure."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._runtime.reload())
        try:
            yield
        finally:
            for number in (*_SIGNALS, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port."""
        await super().startup(sockets)
        self._listeners = sockets or []
        for listener in self._listeners:
            _log.info("listening", address=_address(listener))

    async def main_loop(self) -> None:
        """Wait for a signal, then go on for the drain delay, or until a second signal."""
        await self._told.wait()
        delay = self._http.drain_delay_ms / 1000 if self._stopping[0] == signal.SIGTERM else 0.0
        _log.info("draining", signal=self._stopping[0].name, delay_s=delay)
        self._told.clear()
        with suppress(TimeoutError):
            if delay:
                await asyncio.wait_for(self._told.wait(), delay)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what has been accepted, close the port, answer everything, within the drain timeout."""
        loop = asyncio.get_running_loop()
        await self._close_port(sockets or [])
        await self._until(lambda: not self.server_state.connections, loop.time() + LINGER_SECONDS)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = loop.time() + self._http.drain_timeout_ms / 1000
        await self._until(lambda: not self.server_state.connections and not self.server_state.tasks, deadline)
        await self._abandon()

    def _stop(self, number: signal.Signals | int) -> None:
        self._stopping.append(signal.Signals(number))
        self._runtime.drain()
        self._told.set()

    async def _close_port(self, listeners: list[socket.socket]) -> None:
        """Close the port and lose nobody: closing a listener resets whoever waits in the kernel to be accepted.

        The loop lets go of the listener first, while a duplicate keeps it open; then all who wait are accepted, and the
        last descriptor is closed in the very moment in which nobody does.
        """
        loop = asyncio.get_running_loop()
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
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        parts: dict[str, Any] = {"config": self.config, "server_state": self.server_state, "app_state": {}}  # uvicorn's
        made: asyncio.Protocol = self.config.http_protocol_class(**parts)
        return made

    async def _until(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Wait for the last requests; a second signal ends the waiting."""
        loop = asyncio.get_running_loop()
        while not is_done() and loop.time() < deadline and len(self._stopping) < 2:  # noqa: ASYNC110
            await asyncio.sleep(_TICK_SECONDS)  # uvicorn's sets of connections and tasks tell nobody when they change

    async def _abandon(self) -> None:
        """Refuse what would not end; its callers are told to come again."""
        tasks = list(self.server_state.tasks)
        if tasks:
            _log.error("abandoned", requests=len(tasks))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_ABANDON_SECONDS)

    def _refusal_headers(self) -> Headers:
        return bucket_headers(self._runtime.undecided("error"), show_bucket=True)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
