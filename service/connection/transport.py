"""A connection's transport for the guarded protocol: how it closes, and whether its caller is still connected."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)  # Linux
_LAST_DATA: Final = slice(52, 56)  # tcpi_last_data_recv: milliseconds since the last bytes arrived
_LEAST_WAIT_SECONDS: Final = 0.01  # the kernel counts in ticks of up to 10 ms, so less than this may be nothing
LAST_LOOK_SECONDS: Final = 0.001  # for bytes that arrived before a wait ended, to be read
_BEGINNING: Final = b"HTTP/1.1 "  # every answer begins with these bytes


class Closes(Protocol):
    """The protocol's methods that the transport uses."""

    @property
    def is_lingering(self) -> bool:
        """Return whether all is answered, and the rest of what arrives is thrown away."""

    def close_when_read(self, transport: asyncio.Transport) -> None:
        """Close as soon as the caller can have read the answer."""


class GuardedTransport:
    """A transport whose `close` is the protocol's own; everything else is the transport's.

    Args:
        transport: of the connection.
        protocol: decides how the connection is closed.
    """

    def __init__(self, transport: asyncio.Transport, protocol: Closes) -> None:
        self._transport, self._protocol = transport, protocol
        self.write: Callable[[bytes], None] = transport.write
        view = transport.get_extra_info("socket")
        self._socket = (view.family, view.type, view.proto, view.fileno()) if view is not None else None

    def __getattr__(self, name: str) -> Any:  # Any: any attribute of a transport
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close in the protocol's way."""
        self._protocol.close_when_read(self._transport)

    def is_closing(self) -> bool:
        """Return whether nothing more will be answered."""
        return self._protocol.is_lingering or self._transport.is_closing()

    def waited_seconds(self) -> float:
        """Return how long the bytes being read have waited in the kernel, such as while the process was stopped."""
        if _TCP_INFO is None or self._socket is None:
            return 0.0
        try:
            # A transport's view of its socket does the same in twice the time.
            own = socket.SocketType(*self._socket)
        except OSError:  # closed already
            return 0.0
        try:
            info = own.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA.stop)
        except OSError:  # no TCP
            return 0.0
        finally:
            own.detach()  # the descriptor is the transport's
        seconds = int.from_bytes(info[_LAST_DATA], sys.byteorder) / 1000
        return seconds if seconds >= _LEAST_WAIT_SECONDS else 0.0

    def has_bytes(self) -> bool:
        """Return whether bytes have arrived that are not read yet: a busy loop sees the end of a wait first."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def begin_answer(self) -> None:
        """Send the bytes that every answer begins with; the next write leaves them out.

        A caller who has closed the connection and one who has only finished sending look the same, until something is
        sent: the first one's kernel answers with a reset, which `is_reset` then sees.
        """
        self._transport.write(_BEGINNING)
        self.write = self._write_rest

    def is_reset(self) -> bool:
        """Return whether the caller's side has reset the connection; needed only while nothing is read from it."""
        if self._transport.is_closing():
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), 0)  # resets and errors are always reported
        return bool(poll.poll(0))

    def _write_rest(self, data: bytes) -> None:
        self.write = self._transport.write
        self._transport.write(data[len(_BEGINNING) :])
