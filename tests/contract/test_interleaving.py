"""The vectors of the team draft, and a second implementation that shares no code with the first."""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.experiments.interleaving import coins, redraft, team_draft

VECTORS = json.loads((Path(__file__).parent / "vectors" / "interleaving.json").read_text(encoding="utf-8"))
ITEMS = [f"i{number}" for number in range(12)]

lists = st.lists(st.sampled_from(ITEMS), unique=True)
orders = st.permutations(ITEMS)
requests = st.text(max_size=8).filter(lambda text: text.isprintable())


def plain_coin(request_id: str, number: int) -> int:
    block, place = divmod(number, 256)
    digest = hashlib.sha256(f"interleave.{block}.{request_id}".encode()).hexdigest()
    return int(f"{int(digest, 16):0256b}"[place])


def plain_draft(request_id: str, first: list[str], second: list[str]) -> list[tuple[str, int | None]]:
    placed: list[tuple[str, int | None]] = []
    rounds = 0
    left = (list(first), list(second))
    while left[0] or left[1]:
        if not (left[0] and left[1]) or left[0][0] == left[1][0]:
            placed.append(((left[0] or left[1])[0], None))
        else:
            both = [(left[0][0], 0), (left[1][0], 1)]
            placed += reversed(both) if plain_coin(request_id, rounds) else both
            rounds += 1
        gone = {item for item, _ in placed}
        left = ([item for item in first if item not in gone], [item for item in second if item not in gone])
    return placed


@pytest.mark.parametrize("vector", VECTORS["coins"], ids=lambda vector: ascii(vector["request_id"]))
def test_coins_are_those_of_the_vectors(vector: dict[str, str]) -> None:
    drawn = "".join(map(str, islice(coins(vector["request_id"]), 264)))
    assert (drawn[:16], drawn[256:]) == (vector["first"], vector["from_256"])
    assert drawn == "".join(str(plain_coin(vector["request_id"], number)) for number in range(264))


@pytest.mark.parametrize("vector", VECTORS["drafts"], ids=range(len(VECTORS["drafts"])))
def test_a_draft_is_that_of_the_vectors(vector: dict[str, Any]) -> None:
    draft = team_draft(vector["request_id"], vector["first"], vector["second"], vector["limit"])
    assert (draft.items, draft.teams) == (vector["items"], vector["teams"])


@given(requests, lists, lists)
def test_a_draft_is_that_of_a_second_implementation(request_id: str, first: list[str], second: list[str]) -> None:
    draft = team_draft(request_id, first, second)
    assert list(zip(draft.items, draft.teams, strict=True)) == plain_draft(request_id, first, second)


@given(requests, lists, lists)
def test_every_item_of_both_lists_is_placed_once_and_teams_stay_balanced(
    request_id: str, first: list[str], second: list[str]
) -> None:
    draft = team_draft(request_id, first, second)
    assert sorted(draft.items) == sorted(set(first) | set(second))
    for end in range(len(draft.items) + 1):
        assert abs(draft.teams[:end].count(0) - draft.teams[:end].count(1)) <= 1
    for team, own in enumerate((first, second)):  # a team places its items in the order of its own list
        placed = [item for item, its in zip(draft.items, draft.teams, strict=True) if its == team]
        assert placed == [item for item in own if item in placed]


@given(requests, orders)
def test_equal_lists_are_not_changed_and_no_team_gets_credit(request_id: str, order: list[str]) -> None:
    assert team_draft(request_id, order, order) == (order, [None] * len(order))


@given(requests, orders, orders, st.integers(0, 14))
def test_a_limit_gives_the_beginning_of_the_whole_draft(
    request_id: str, first: list[str], second: list[str], limit: int
) -> None:
    whole, part = team_draft(request_id, first, second), team_draft(request_id, first, second, limit)
    assert part == (whole.items[:limit], whole.teams[:limit])


@given(requests, lists, lists, st.integers(1, 12))
def test_a_logged_draft_can_be_drafted_again(request_id: str, first: list[str], second: list[str], limit: int) -> None:
    logged = team_draft(request_id, first, second, limit)
    own = [{item: place for place, item in enumerate(one, start=1)} for one in (first, second)]
    again = redraft(request_id, {item: [ranks.get(item) for ranks in own] for item in logged.items})
    assert again.items == logged.items
    assert again.teams[:-1] == logged.teams[:-1]  # the last may be the first half of a round


def test_each_list_goes_first_in_half_of_the_rounds() -> None:
    first = sum(next(coins(f"request-{number}")) for number in range(20_000))
    assert abs(first / 20_000 - 0.5) < 4 * 0.5 / 20_000**0.5
