"""The listening socket: passed by a service manager, taken over from the previous process, or newly bound."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from service.errors import StartError
from service.process.handover import READY, StillServing, take_over
from service.settings.http import HttpSettings

_FIRST_PASSED: Final = 3  # the first descriptor that a service manager passes (sd_listen_fds(3))


@dataclass(frozen=True, slots=True)
class Port:
    """A listening socket, and whom to tell when everything is loaded."""

    listener: socket.socket
    predecessor: socket.socket | None = None

    def ready(self) -> None:
        """Tell the process before that this one accepts."""
        if self.predecessor is not None:
            with suppress(OSError), self.predecessor:  # it may have ended
                self.predecessor.send(READY)

    def close(self) -> None:
        """Close both."""
        self.listener.close()
        if self.predecessor is not None:
            self.predecessor.close()


def open_port(http: HttpSettings, *, passed: int = 0, replaces: bool = False) -> Port:
    """Return the socket to serve on.

    Args:
        http: the address.
        passed: sockets that a service manager has passed.
        replaces: whether to take the port over from one of our processes that is not stopping.

    Raises:
        StartError: the address cannot be had.
    """
    if passed > 1:
        raise StartError(f"{passed} sockets were passed; the service listens on one")
    if passed:
        return Port(_passed_socket())
    try:
        return Port(listen(http.host, http.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _taken_over(http, error, replaces=replaces)
        raise cannot_listen(http, error.strerror) from error


def cannot_listen(http: HttpSettings, reason: str | None) -> StartError:
    """Return the error with the unavailable address and the reason."""
    return StartError(f"cannot listen on {http.host}:{http.port} ({reason})")


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises:
        OSError: the address cannot be had.
    """
    family, kind, protocol, _, address = _resolved(host, port)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """Return a socket's address as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _resolved(host: str, port: int) -> tuple[Any, ...]:  # Any: getaddrinfo's types
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]


def _passed_socket() -> socket.socket:
    try:
        listener = socket.socket(fileno=_FIRST_PASSED)
    except OSError as error:
        raise StartError(f"the socket that was passed cannot be used ({error.strerror})") from error
    listener.set_inheritable(False)
    listener.setblocking(False)
    return listener


def _taken_over(http: HttpSettings, error: OSError, *, replaces: bool) -> Port:
    address = _resolved(http.host, http.port)[4]
    try:
        taken = take_over(address, replaces=replaces)
    except StillServing as serving:
        advice = f"process {serving.process_id} serves there; stop it first, or take over with --replace"
        raise cannot_listen(http, f"{error.strerror}: {advice}") from error
    if taken is None:
        raise cannot_listen(http, error.strerror) from error
    listener, predecessor = taken
    listener.setblocking(False)
    return Port(listener, predecessor)
