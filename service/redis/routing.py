"""Sends commands to the right server: by key, within the caller's budget, and a second time if that helps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from redis.exceptions import AskError

from service.flow.supervision import UNOBSERVED, Supervised, TaskObserver, supervise_job
from service.names import StoreState
from service.redis.errors import (
    Busy,
    NoServer,
    Unconfirmed,
    is_cut,
    is_redirect,
    is_unreachable,
    is_wrong_server,
)
from service.redis.node import Command, Node
from service.redis.pipe import Outcome

_LOOK_SECONDS: Final = 0.25  # between two look-ups: one that fails must not be asked for by every request
_CLOSE_SECONDS: Final = 1.0
_ASKING: Final = Command(b"", ("ASKING",))


class Topology(Protocol):
    """Maps keys to servers."""

    @property
    def poll_seconds(self) -> float | None:
        """Return the time between look-ups in normal operation; None if the servers announce moves."""

    def node_of(self, key: bytes) -> Node | None:
        """Return the server of a key; None if none is known."""

    def redirected(self, error: AskError, node: Node) -> Node | None:
        """Return the server that a redirection by another one names, and store it if it is permanent."""

    async def look_up(self) -> None:
        """Ask the configured addresses for the servers; keep the known ones if none answers."""

    def nodes(self) -> Sequence[Node]:
        """Return the servers known by now."""

    async def aclose(self) -> None:
        """Close the connections of look-ups."""


class RoutedClient:
    """A client of one server, or of the servers that Sentinels or a Cluster name. Its calls never raise.

    Args:
        topology: knows the servers.
        timeout_seconds: of a whole call, including look-up, connecting and a second try.
        observer: counts restarts of the look-ups.
    """

    def __init__(self, topology: Topology, timeout_seconds: float, observer: TaskObserver = UNOBSERVED) -> None:
        self.topology = topology
        self._timeout, self._observer = timeout_seconds, observer
        self._look: Supervised | None = None
        self._is_found = asyncio.Event()
        self._look_began = self._look_ended = -_LOOK_SECONDS
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the reply to each command; an error replaces the reply of its command."""
        self._look_if_due()
        return await self._run(commands, asyncio.get_running_loop().time() + self._timeout, tries=2)

    def begin(self, commands: Sequence[Command], done: Callable[[list[Any]], None]) -> bool:
        """Send commands as `run` does, without a coroutine; return whether that was possible.

        It is possible if one server has all keys, and a connection to it is open and free. Later failures are
        tried again as in `run`.

        Args:
            commands: one or more.
            done: called once, later, with what `run` returns; must not raise.
        """
        self._look_if_due()
        node = self.topology.node_of(commands[0].key)
        if node is None or any(self.topology.node_of(command.key) is not node for command in commands[1:]):
            return False
        began, deadline = time.monotonic(), asyncio.get_running_loop().time() + self._timeout

        def answered(outcome: Outcome) -> None:
            replies = [outcome] * len(commands) if isinstance(outcome, Exception) else outcome
            if any(isinstance(reply, Exception) for reply in replies):
                self._end_later(self._mended(node, commands, replies, began, deadline, tries=2), done)
            else:
                done(replies)

        return node.begin(commands, deadline, answered)

    def state(self) -> StoreState:
        """Return the health of the client's servers."""
        nodes = self.topology.nodes()
        is_up = not all(node.is_failing for node in nodes) if nodes else self._look is None
        return StoreState(is_up, sum(node.breaker.is_open for node in nodes))

    async def aclose(self) -> None:
        """Give calls in progress a moment to finish, then close all connections."""
        if self._look is not None:
            await self._look.cancel()
        await asyncio.gather(*[node.aclose(_CLOSE_SECONDS) for node in self.topology.nodes()])
        await self.topology.aclose()

    async def _run(self, commands: Sequence[Command], deadline: float, tries: int) -> list[Any]:
        nodes = [self.topology.node_of(command.key) for command in commands]
        if None in nodes and await self._look_up(time.monotonic(), deadline):
            nodes = [self.topology.node_of(command.key) for command in commands]
        if nodes and nodes[0] is not None and nodes.count(nodes[0]) == len(nodes):
            return await self._share(nodes[0], commands, deadline, tries)
        shares: dict[Node | None, list[int]] = {}
        for place, node in enumerate(nodes):
            shares.setdefault(node, []).append(place)
        replies: list[Any] = [NoServer("no server is known for this key")] * len(commands)
        works = [
            self._share(node, [commands[place] for place in places], deadline, tries)
            for node, places in shares.items()
            if node is not None
        ]
        known = [places for node, places in shares.items() if node is not None]
        for places, answers in zip(known, await asyncio.gather(*works), strict=True):
            _put(replies, places, answers)
        return replies

    async def _share(self, node: Node, commands: Sequence[Command], deadline: float, tries: int) -> list[Any]:
        """Send one server its share; repeat commands that may succeed on the server that is right now."""
        began = time.monotonic()
        return await self._mended(node, commands, await _replies(node, commands, deadline), began, deadline, tries)

    def _end_later(self, work: Coroutine[Any, Any, list[Any]], done: Callable[[list[Any]], None]) -> None:
        async def end() -> None:
            done(await work)

        task = asyncio.get_running_loop().create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _mended(
        self, node: Node, commands: Sequence[Command], replies: list[Any], began: float, deadline: float, tries: int
    ) -> list[Any]:
        """Return replies with those in the place of errors that another try has improved."""
        failed = [place for place, reply in enumerate(replies) if isinstance(reply, Exception)]
        if not failed or tries < 2:
            return replies
        redirected = [place for place in failed if is_redirect(replies[place])]
        if redirected:
            await self._follow(node, redirected, commands, replies, deadline)
        again = [place for place in failed if place not in set(redirected)]
        if again and await self._is_worth_a_retry(node, replies[again[0]], began, deadline):
            _put(replies, again, await self._run([commands[place] for place in again], deadline, tries - 1))
        return replies

    async def _follow(
        self, node: Node, places: list[int], commands: Sequence[Command], replies: list[Any], deadline: float
    ) -> None:
        """Send commands to the servers that the redirections name; an unnecessary ASKING does no harm."""
        self._look_soon()
        targets: dict[Node, list[int]] = {}
        for place in places:
            target = self.topology.redirected(replies[place], node)
            if target is not None:
                targets.setdefault(target, []).append(place)

        async def send(target: Node, share: list[int]) -> None:
            pairs = [command for place in share for command in (_ASKING, commands[place])]
            _put(replies, share, (await _replies(target, pairs, deadline))[1::2])

        await asyncio.gather(*[send(target, share) for target, share in targets.items()])

    async def _is_worth_a_retry(self, node: Node, error: Exception, began: float, deadline: float) -> bool:
        if is_wrong_server(error):
            is_found = await self._look_up(began, deadline)
            if is_found and not isinstance(error, Unconfirmed):
                node.drop_connections(began)
            return is_found
        if is_unreachable(error):
            return await self._look_up(began, deadline)
        if not isinstance(error, Busy):
            self._look_soon()
        return is_cut(error)

    def _look_if_due(self) -> None:
        if self.topology.poll_seconds and time.monotonic() - self._look_began > self.topology.poll_seconds:
            self._look_soon()

    async def _look_up(self, since: float, deadline: float) -> bool:
        """Wait for a look-up; return whether one ended after `since`."""
        if self._look_soon():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._is_found.wait()
        return self._look_ended >= since

    def _look_soon(self) -> bool:
        """Start a look-up in the background, unless one started a moment ago; return whether one is running."""
        if self._look is not None and not self._look.is_done:
            return True
        if time.monotonic() - self._look_began < _LOOK_SECONDS:
            return False
        self._look_began = time.monotonic()
        self._is_found.clear()
        self._look = supervise_job("store_lookup", self._look_again, self._observer)
        return True

    async def _look_again(self) -> None:
        await self.topology.look_up()
        self._look_ended = time.monotonic()
        self._is_found.set()


class OneServer:
    """A single server, found by its configured name at each new connection."""

    poll_seconds: Final = None

    def __init__(self, node: Node) -> None:
        self._node = node

    def node_of(self, key: bytes) -> Node:
        """Return the server."""
        del key
        return self._node

    def redirected(self, error: AskError, node: Node) -> None:
        """Follow no redirection: this client is not configured for a Cluster."""
        del error, node

    async def look_up(self) -> None:
        """Do nothing: names are resolved at each new connection."""

    def nodes(self) -> Sequence[Node]:
        """Return the server."""
        return (self._node,)

    async def aclose(self) -> None:
        """Do nothing: look-ups use no connections."""


async def _replies(node: Node, commands: Sequence[Command], deadline: float) -> list[Any]:
    try:
        return await node.run(commands, deadline)
    except Exception as error:  # the edge of the client: its caller always gets an answer
        return [error] * len(commands)


def _put(replies: list[Any], places: Sequence[int], answers: Sequence[Any]) -> None:
    for place, answer in zip(places, answers, strict=True):
        replies[place] = answer
