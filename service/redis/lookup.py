"""Asks several servers the same question; some may be silent and some out of date."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from service.redis.node import Command, Node

ASK_SECONDS: Final = 0.5  # for a look-up: it runs concurrently with requests, which wait for it within their budget
_CLOSE_SECONDS: Final = 1.0


async def ask_most(servers: Sequence[Node], commands: Sequence[Command]) -> list[tuple[Node, list[Any]]]:
    """Return the answers of servers: all of them, or after a while most, or at the timeout those that arrived."""
    deadline = asyncio.get_running_loop().time() + ASK_SECONDS
    waiting = {asyncio.ensure_future(_ask(server, commands, deadline)) for server in servers}
    answers: list[tuple[Node, list[Any]]] = []
    while waiting and 2 * len(answers) <= len(servers):
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        answers += [answer for answer in (task.result() for task in done) if answer is not None]
    for task in waiting:
        task.cancel()
    return answers


async def _ask(server: Node, commands: Sequence[Command], deadline: float) -> tuple[Node, list[Any]] | None:
    try:
        replies = await server.run(commands, deadline)
    except Exception:  # a server that does not answer; its breaker counts
        return None
    return None if any(isinstance(reply, Exception) for reply in replies) else (server, replies)


class Farewell:
    """Servers that get no new commands and are closed when their pending ones have ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, node: Node) -> None:
        """Close a server's connections when its last replies have arrived."""
        task = asyncio.ensure_future(node.aclose(_CLOSE_SECONDS))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Wait for all of them."""
        if self._tasks:
            await asyncio.wait(self._tasks)
