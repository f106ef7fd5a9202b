"""Callers that are slow to read their answers: their unread bytes are bounded for the whole process."""

from __future__ import annotations

from typing import Protocol


class Reader(Protocol):
    """A connection with an answer that its caller has not read yet."""

    def cut_off(self) -> None:
        """End the connection, and forget the answer."""


class SlowReaders:
    """Keeps the connections with unsent bytes, and cuts off the longest waiting ones when there are too many bytes.

    Args:
        max_bytes: unsent bytes of all connections together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._unsent: dict[Reader, int] = {}
        self._total = 0

    def add(self, reader: Reader, unsent: int) -> None:
        """Note that a connection has unsent bytes; this may cut off others, or this one if it has too many itself."""
        self.remove(reader)
        self._unsent[reader] = unsent
        self._total += unsent
        while self._total > self._max_bytes:
            oldest = next(iter(self._unsent))
            self.remove(oldest)
            oldest.cut_off()

    def remove(self, reader: Reader) -> None:
        """Note that a connection has no unsent bytes any more."""
        self._total -= self._unsent.pop(reader, 0)
