"""Are two answers the same ranking? The bytes of their items: ids, order and scores."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from typing import Final

from benchmarks.load.servers import HOST, Server
from contract.command_line import CommandError

_ITEMS: Final = b'"items":['
_TIMEOUT_SECONDS: Final = 20


def items_of(answer: bytes) -> bytes:
    """Return the bytes of an answer's items, brackets included.

    Raises:
        CommandError: there are none.
    """
    start = answer.find(_ITEMS)
    end = answer.find(b"]", start)
    if start < 0 or end < 0:
        raise CommandError(f"an answer without items: {answer[:200]!r}")
    return answer[start + len(_ITEMS) - 1 : end + 1]


def ask(server: Server, bodies: Sequence[bytes]) -> list[bytes]:
    """Return the answers to some requests, asked one after the other.

    Raises:
        CommandError: a status other than 200.
    """
    connection = http.client.HTTPConnection(HOST, server.port, timeout=_TIMEOUT_SECONDS)
    answers = []
    try:
        for body in bodies:
            connection.request("POST", "/rank", body, {"content-type": "application/json"})
            response = connection.getresponse()
            answers.append(response.read())
            if response.status != 200:
                raise CommandError(f"{server.name} answers {response.status}: {answers[-1][:200]!r}")
    finally:
        connection.close()
    return answers


def check_same(server: Server, bodies: Sequence[bytes], expected: Sequence[bytes]) -> int:
    """Compare a server's answers with the expected items, byte for byte; returns how many.

    Raises:
        CommandError: one differs.
    """
    for place, (answer, items) in enumerate(zip(ask(server, bodies), expected, strict=True)):
        found = items_of(answer)
        if found != items:
            at = next(
                (n for n, (one, two) in enumerate(zip(found, items, strict=False)) if one != two),
                min(len(found), len(items)),
            )
            raise CommandError(
                f"{server.name}: answer {place} differs at byte {at}: "
                f"{found[at : at + 60]!r}, not {items[at : at + 60]!r}"
            )
    return len(expected)
