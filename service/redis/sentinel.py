"""The primary that Sentinels name; they are asked regularly, because the old one may still answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import AskError

from service.redis.lookup import Farewell, ask_most
from service.redis.node import Address, Command, Node

_log = structlog.get_logger(__name__)


class _Primary(NamedTuple):
    epoch: int  # of the failover that made it the primary: the highest one is the newest
    address: Address


class Sentinels:
    """One primary, the one that the Sentinels named last.

    Nothing closes a connection to an old primary: it becomes a replica about ten seconds after another one was
    promoted. The Sentinels are therefore asked every second while there is traffic.

    Args:
        sentinels: the configured Sentinels.
        service: the primary's name there.
        make_node: creates the server of an address.
    """

    poll_seconds: Final = 1.0

    def __init__(self, sentinels: Sequence[Node], service: str, make_node: Callable[[Address], Node]) -> None:
        self._sentinels, self._make_node = sentinels, make_node
        self._question = Command(b"", ("SENTINEL", "MASTER", service))
        self._address: Address | None = None
        self._node: Node | None = None
        self._farewell = Farewell()
        self._is_silent = False

    def node_of(self, key: bytes) -> Node | None:
        """Return the primary."""
        del key
        return self._node

    def redirected(self, error: AskError, node: Node) -> None:
        """Follow no redirection: Sentinels do not watch a Cluster."""
        del error, node

    async def look_up(self) -> None:
        """Ask the Sentinels; if none answers, the primary that they named last stays."""
        answers = await ask_most(self._sentinels, [self._question])
        named = [primary for _, [reply] in answers if (primary := _primary(reply)) is not None]
        self._note_silence(not named)
        if named:
            self._use(max(named).address)

    def nodes(self) -> Sequence[Node]:
        """Return the primary, if it is known."""
        return () if self._node is None else (self._node,)

    async def aclose(self) -> None:
        """Close the connections to the Sentinels."""
        await asyncio.gather(*[sentinel.aclose() for sentinel in self._sentinels])
        await self._farewell.aclose()

    def _use(self, address: Address) -> None:
        if address == self._address:
            return
        if self._node is not None:
            _log.warning("store_primary_changed", old=_text(self._address), new=_text(address))
            self._farewell.add(self._node)
        self._address, self._node = address, self._make_node(address)

    def _note_silence(self, is_silent: bool) -> None:
        if is_silent and not self._is_silent:
            _log.warning("sentinels_name_no_primary", known=_text(self._address))
        self._is_silent = is_silent


def _primary(reply: Any) -> _Primary | None:  # Any: a list of names and values, if the reply is valid
    try:
        fields = dict(zip(reply[::2], reply[1::2], strict=True))
        return _Primary(int(fields[b"config-epoch"]), (fields[b"ip"].decode(), int(fields[b"port"])))
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _text(address: Address | None) -> str | None:
    return None if address is None else f"{address[0]}:{address[1]}"
