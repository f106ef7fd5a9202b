"""The nodes of a Cluster, found through the configured ones, and found again when all of them have moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import structlog
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from service.redis.lookup import Farewell, ask_most
from service.redis.node import Address, Command, Node

_SLOTS: Final = 16_384
_QUESTIONS: Final = (Command(b"", ("CLUSTER", "SLOTS")), Command(b"", ("CLUSTER", "INFO")))

_log = structlog.get_logger(__name__)


class _Map(NamedTuple):
    """One node's view of the Cluster; the best of several is the greatest."""

    is_whole: bool  # it sees most of the primaries and all slots served
    epoch: int
    owners: list[tuple[int, int, Address]]  # first and last slot, and their primary


class Cluster:
    """The primaries of a Cluster, each with its slots.

    Every look-up asks the configured addresses and the known nodes: a name may now resolve to another address, and
    every node may have moved.

    Args:
        startup: the configured addresses.
        make_node: creates the server of an address.
        make_asker: creates a server of an address for one look-up.
    """

    poll_seconds: Final = None  # a node that gets a command for another node's key redirects to it

    def __init__(
        self, startup: Sequence[Address], make_node: Callable[[Address], Node], make_asker: Callable[[Address], Node]
    ) -> None:
        self._startup, self._make_node, self._make_asker = startup, make_node, make_asker
        self._nodes: dict[Address, Node] = {}
        self._slots: list[Node | None] = [None] * _SLOTS
        self._farewell = Farewell()

    def node_of(self, key: bytes) -> Node | None:
        """Return the primary of a key's slot."""
        return self._slots[key_slot(key)]

    def redirected(self, error: AskError, node: Node) -> Node | None:
        """Return the node that MOVED or ASK names; MOVED is permanent."""
        host, port = error.node_addr
        target = self._node((host or node.host, int(port)))
        if isinstance(error, MovedError):
            self._slots[error.slot_id] = target
        return target

    async def look_up(self) -> None:
        """Ask the configured addresses and the known nodes for the map of slots; keep the old one if none has it."""
        askers = [self._make_asker(address) for address in self._startup]
        try:
            answers = await ask_most([*askers, *self._nodes.values()], _QUESTIONS)
        finally:
            for asker in askers:
                self._farewell.add(asker)
        maps = [one for node, replies in answers if (one := _map(replies, node.host)) is not None]
        if maps:
            self._use(max(maps).owners)
        else:
            _log.warning("cluster_names_no_nodes", asked=len(askers) + len(self._nodes))

    def nodes(self) -> Sequence[Node]:
        """Return the primaries known by now."""
        return tuple(self._nodes.values())

    async def aclose(self) -> None:
        """Close the connections to nodes that left."""
        await self._farewell.aclose()

    def _use(self, owners: Sequence[tuple[int, int, Address]]) -> None:
        slots: list[Node | None] = [None] * _SLOTS
        for first, last, address in owners:
            slots[first : last + 1] = [self._node(address)] * (last + 1 - first)
        self._slots = slots
        kept = {address for _, _, address in owners}
        for address in [address for address in self._nodes if address not in kept]:
            self._farewell.add(self._nodes.pop(address))

    def _node(self, address: Address) -> Node:
        if address not in self._nodes:
            self._nodes[address] = self._make_node(address)
        return self._nodes[address]


def _map(
    replies: Sequence[Any], asked: str
) -> _Map | None:  # Any: replies of the expected types, if the server is healthy
    try:
        slots, information = replies
        fields = dict(line.split(":", 1) for line in information.decode().splitlines() if ":" in line)
        owners = list(_owners(slots, asked))
        is_whole = fields["cluster_state"] == "ok"
        return _Map(is_whole, int(fields["cluster_current_epoch"]), owners) if owners else None
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _owners(slots: Any, asked: str) -> Iterator[tuple[int, int, Address]]:
    for first, last, primary, *_ in slots:
        host, port = (primary[0] or b"").decode(), int(primary[1])
        if host != "?":  # a node without a known name; none means the node that was asked
            yield int(first), int(last), (host or asked, port)
