"""The parts that a worker inherits from the supervisor."""

from __future__ import annotations

from typing import NamedTuple


class Inherited(NamedTuple):
    """A worker's number, and file descriptors."""

    worker: int
    channel: int
    listener: int
    counts: int
