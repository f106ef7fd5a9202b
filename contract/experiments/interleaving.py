"""Team draft: one list made of two models' lists, so that one user compares both models at once.

    coin(request, n) = bit n mod 256, highest first, of SHA-256("interleave.<n div 256>.<request id>")

A round: if the next item of both lists is the same, it is placed for no team. Otherwise each list places its next item
for its team; coin n of the n-th such round, from 0, is 1 if the second list goes first. When one list has no item left,
the rest of the other one follows for no team. Any other implementation must reproduce the vectors in
tests/contract/vectors/interleaving.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

INTERLEAVED: Final = "interleaved"
"""The arm of a unit whose answers are interleaved; no arm of such an experiment may have this key."""
ARMS: Final = 2
"""The arms of an experiment that interleaves."""


class Draft(NamedTuple):
    """A merged list."""

    items: list[str]
    teams: list[int | None]  # the list, 0 or 1, that placed each item; None for neither


def team_draft(request_id: str, first: Sequence[str], second: Sequence[str], limit: int | None = None) -> Draft:
    """Merge two lists, each of distinct items, best first; the same arguments give the same draft, always.

    Args:
        request_id: the coins depend only on it, so it must be unique.
        first: the list of team 0.
        second: the list of team 1; it may have other items.
        limit: place only so many items; None for all.
    """
    count = len(set(first) | set(second)) if limit is None else limit
    draft, placed = Draft([], []), set[str]()
    lists = (_rest(first, placed), _rest(second, placed))
    heads, flips = [next(one, None) for one in lists], coins(request_id)
    while len(draft.items) < count and heads != [None, None]:
        for team, item in _round(heads, flips):
            draft.items.append(item)
            draft.teams.append(team)
            placed.add(item)
        heads = [next(one, None) if head in placed else head for one, head in zip(lists, heads, strict=True)]
    return Draft(draft.items[:count], draft.teams[:count])


def coins(request_id: str) -> Iterator[int]:
    """Yield the coins of a request, without end: 1 if the second list goes first."""
    block = 0
    while True:
        for byte in sha256(f"interleave.{block}.{request_id}".encode()).digest():
            yield from ((byte >> shift) & 1 for shift in range(7, -1, -1))
        block += 1


def redraft(request_id: str, ranks: Mapping[str, Sequence[int | None]]) -> Draft:
    """Draft again from the ranks that the ranking log has for each item; None: the arm's model does not know it.

    Items that neither model knows are left out: they follow the draft. A log of only the best items ends before the
    draft did, so the team of the last item may differ if it was placed first in its round.
    """
    own: list[list[str]] = []
    for arm in range(ARMS):
        known = {item: place for item, both in ranks.items() if (place := both[arm]) is not None}
        own.append(sorted(known, key=known.__getitem__))
    return team_draft(request_id, own[0], own[1])


def _rest(items: Sequence[str], placed: set[str]) -> Iterator[str]:
    """Yield the items of a list that are not placed when they are asked for."""
    return (item for item in items if item not in placed)


def _round(heads: Sequence[str | None], flips: Iterator[int]) -> list[tuple[int | None, str]]:
    first, second = heads
    if first == second or first is None or second is None:
        return [(None, item) for item in (first or second,) if item is not None]
    picks: list[tuple[int | None, str]] = [(0, first), (1, second)]
    return picks[::-1] if next(flips) else picks
