"""Writes that survive a failover: a primary's reply counts when a replica has the write too.

Replication is asynchronous. While a replica is being promoted, the old primary continues to accept writes for a
second or more, and these are lost when it becomes a replica. `WAIT` after the writes returns how many replicas have
them; a promoted replica has left its primary and confirms nothing.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from service.redis.errors import Unconfirmed

Words = tuple[bytes | str | int, ...]
Ask = Callable[[Words], Awaitable[Any]]  # Any: a reply

_ROLE: Final[Words] = ("ROLE",)

_log = structlog.get_logger(__name__)


class Replication:
    """The state of one primary's replicas, learned from the writes.

    Args:
        wait_ms: how long a write may wait for a replica.
        grace_seconds: how long a primary that has lost all its replicas is not trusted. A failover ends within that
            time; afterwards it is a primary without replicas, and is trusted.
        on_unconfirmed: called for each round trip of writes that only the primary has confirmed.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        *,
        wait_ms: int,
        grace_seconds: float,
        on_unconfirmed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wait: Words = ("WAIT", 1, max(1, wait_ms))
        self._grace = grace_seconds
        self._on_unconfirmed = on_unconfirmed
        self._clock = clock
        self._had_replicas = False
        self._alone_since: float | None = None
        self._warned: set[str] = set()

    async def confirm(self, ask: Ask) -> Unconfirmed | None:
        """Ask on the connection that has just written; return the reason not to acknowledge the writes, or None."""
        replicas = _replicas(await ask(_ROLE))
        if replicas is None:
            self._accept("not_told")  # its user may not ask, or it is a replica, which has refused the writes
            return None
        if replicas:
            self._had_replicas, self._alone_since = True, None
            confirmed = await ask(self._wait)
            if isinstance(confirmed, int) and confirmed > 0:
                return None
            replicas = _replicas(await ask(_ROLE))
            if replicas:
                self._accept("replica_slow")  # a failover would have demoted it
                return None
        return self._alone()

    def _alone(self) -> Unconfirmed | None:
        now = self._clock()
        if self._had_replicas and self._alone_since is None:
            self._alone_since = now
        if self._alone_since is not None and now - self._alone_since < self._grace:
            return Unconfirmed("the primary has just lost its replicas")
        self._had_replicas, self._alone_since = False, None
        self._accept("no_replica")
        return None

    def _accept(self, reason: str) -> None:
        self._on_unconfirmed()
        if reason not in self._warned:
            self._warned.add(reason)
            _log.warning("store_writes_unconfirmed", reason=reason)


def _replicas(role: Any) -> int | None:  # Any: a reply
    """Return how many replicas follow a primary; None if it is not a primary or does not report them."""
    if isinstance(role, list) and len(role) > 2 and role[0] == b"master":
        return len(role[2])
    return None
