"""Opening connections to one server: few are tried while none can be opened.

Until the breaker opens, after a quarter of a second, each call would try to open one.
"""

from __future__ import annotations

import time
from typing import Final

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

FAILED_IN_A_ROW: Final = 8  # before a pause: a link that cuts some connections must not stop the others
_PAUSE_SECONDS: Final = 0.01


class Dialling:
    """Opens the connections of a pool.

    Args:
        pool: its connections are closed until they are asked for.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._failed = 0  # in a row
        self._pause_until, self._reason = 0.0, ""

    async def open(self) -> AbstractConnection:
        """Return a new connection.

        Raises:
            ConnectionError: it could not be opened; or many could not, the last one a moment ago.
        """
        if time.monotonic() < self._pause_until:
            raise RedisConnectionError(self._reason)
        try:
            connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except RedisConnectionError as error:
            if type(error) is RedisConnectionError:  # not a wrong password, or a server that is loading
                self._note(error)
            raise
        self._failed = 0
        return connection

    def _note(self, error: RedisConnectionError) -> None:
        self._failed += 1
        if self._failed >= FAILED_IN_A_ROW:
            self._pause_until, self._reason = time.monotonic() + _PAUSE_SECONDS, str(error)
