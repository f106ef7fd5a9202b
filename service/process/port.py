"""The listening sockets: passed by a service manager, taken over from the previous process, or newly bound."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from service.errors import StartError
from service.process.handover import READY, StillServing, take_over
from service.settings.root import Settings

_FIRST_PASSED: Final = 3  # the first descriptor that a service manager passes (sd_listen_fds(3))


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


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


class Ports(NamedTuple):
    """The port of callers, and that of operators if it is another one."""

    callers: Port
    admin: Port | None = None

    def close(self) -> None:
        """Close what is open."""
        self.callers.close()
        if self.admin is not None:
            self.admin.close()


def open_ports(settings: Settings, *, passed: int = 0, replaces: bool = False) -> Ports:
    """Return the sockets to serve on.

    Args:
        settings: their addresses.
        passed: sockets that a service manager has passed: the first for callers, the second for operators.
        replaces: whether to take the ports over from one of our processes that is not stopping.

    Raises:
        StartError: an address cannot be had.
    """
    wanted = _wanted(settings)
    if passed > len(wanted):
        raise StartError(f"{passed} sockets were passed; the service listens on {('one', 'two')[len(wanted) - 1]}")
    opened: list[Port] = []
    try:
        for number, address in enumerate(wanted):
            opened.append(Port(_passed_socket(number)) if number < passed else _open_port(address, replaces=replaces))
    except StartError:
        for port in opened:
            port.close()
        raise
    return Ports(*opened)


def begin_listening(listener: socket.socket, backlog: int) -> None:
    """Let callers connect. The event loop listens too, but uvloop does not tell if that fails.

    Raises:
        StartError: another process, or the service's other port, listens at the address by now.
    """
    try:
        listener.listen(backlog)
    except OSError as error:
        raise cannot_listen(Address(*listener.getsockname()[:2]), error.strerror) from error


def cannot_listen(address: Address, reason: str | None) -> StartError:
    """Return the error with the unavailable address and the reason."""
    return StartError(f"cannot listen on {address.host}:{address.port} ({reason})")


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


def port_of(listener: socket.socket) -> int | None:
    """Return a socket's TCP port; None for another kind of socket, which a service manager may pass."""
    return int(listener.getsockname()[1]) if listener.family in (socket.AF_INET, socket.AF_INET6) else None


def _resolved(host: str, port: int) -> tuple[Any, ...]:  # Any: getaddrinfo's types
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]


def _wanted(settings: Settings) -> list[Address]:
    callers, admin = Address(settings.http.host, settings.http.port), settings.admin
    if admin.port is None:
        return [callers]
    if admin.port and (admin.host, admin.port) == callers:
        raise StartError(f"RANKER_ADMIN__PORT: {admin.port} is the port of callers; operators need another one")
    return [callers, Address(admin.host, admin.port)]


def _open_port(address: Address, *, replaces: bool) -> Port:
    try:
        return Port(listen(*address))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _taken_over(address, error, replaces=replaces)
        raise cannot_listen(address, error.strerror) from error


def _passed_socket(number: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=_FIRST_PASSED + number)
    except OSError as error:
        raise StartError(f"the socket that was passed cannot be used ({error.strerror})") from error
    listener.set_inheritable(False)
    listener.setblocking(False)
    return listener


def _taken_over(wanted: Address, error: OSError, *, replaces: bool) -> Port:
    address = _resolved(*wanted)[4]
    try:
        taken = take_over(address, replaces=replaces)
    except StillServing as serving:
        advice = f"process {serving.process_id} serves there; stop it first, or take over with --replace"
        raise cannot_listen(wanted, f"{error.strerror}: {advice}") from error
    if taken is None:
        raise cannot_listen(wanted, error.strerror) from error
    listener, predecessor = taken
    listener.setblocking(False)
    return Port(listener, predecessor)
