"""The parts that a worker inherits from the supervisor."""

from __future__ import annotations

from typing import NamedTuple


class Inherited(NamedTuple):
    """A worker's number, and file descriptors; `admin` is -1 if operators have no port of their own."""

    worker: int
    channel: int
    listener: int
    counts: int
    admin: int
