"""The slowest rankings: which are kept, within which bounds, and what operators see of them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from contract.behaviours.records import RECORD, item_keys
from contract.experiments.decision import UNDECIDED
from service.connection.exchange import Exchange
from service.ranking.call import AwaitedCall
from service.ranking.slow import SlowInputs, SlowRankings
from service.ranking.slow_shown import relabelled, shown, two_digits
from service.settings.slow import SlowSettings

USER, ITEM = "canary-user", "canary-item"
NOW = 1_000.0  # seconds; the time of these tests does not pass


def a_call(seconds: float, user: str = USER) -> AwaitedCall:
    """Return a ranking that began so many seconds ago, and ends now."""
    call = AwaitedCall(user, user, [ITEM], UNDECIDED)
    call.began = NOW - seconds
    return call


def slow_rankings(settings: SlowSettings, key: bytes | None) -> SlowRankings:
    """Return the kept rankings of a service whose clocks do not move."""
    return SlowRankings(settings, key, lambda: 1_700_000_000_000, lambda: NOW)


def keep(slow: SlowRankings, seconds: float, user: str = USER) -> None:
    """Offer a ranking as the service does."""
    call = a_call(seconds, user)
    if seconds > slow.least:
        slow.keep(call, Exchange([], 0.0))


def kept(slow: SlowRankings) -> list[float]:
    return [one.seconds for one in slow.slowest()]


@pytest.fixture
def slow() -> SlowRankings:
    return slow_rankings(SlowSettings(keep=3), b"key")


def test_the_slowest_are_kept_and_a_faster_one_costs_a_comparison(slow: SlowRankings) -> None:
    for seconds in (50, 10, 40, 20, 30):
        keep(slow, seconds)
    assert kept(slow) == [50, 40, 30]
    assert slow.least == 30


def test_each_window_has_its_slowest_and_they_are_forgotten_after_an_hour(slow: SlowRankings) -> None:
    keep(slow, 90)
    for window in range(11):
        slow.turn()
        assert slow.least == 0
        keep(slow, 10 + window)
    assert kept(slow) == [90, 20, 19]
    slow.turn()
    assert kept(slow) == [20, 19, 18]


def test_the_bytes_are_bounded_and_the_fastest_go_first() -> None:
    slow = slow_rankings(SlowSettings(keep=100, max_bytes=10_000), None)
    for seconds in range(1, 50):
        keep(slow, seconds)
    assert sum(one.size for one in slow.slowest()) <= 10_000
    assert kept(slow) == [49, 48, 47, 46]
    assert slow.least == 45
    slow.turn()
    keep(slow, 5)
    assert kept(slow) == [49, 48, 47, 46]


def test_a_user_is_a_pseudonym_that_another_process_with_the_same_key_gives_too(slow: SlowRankings) -> None:
    keep(slow, 10)
    other = slow_rankings(SlowSettings(keep=3), b"key")
    without = slow_rankings(SlowSettings(keep=3), None)
    for one in (other, without):
        keep(one, 10)
    users = [one.slowest()[0].user for one in (slow, other, without)]
    assert users[0] == users[1] != users[2]
    assert all(user.startswith("h:") for user in users)


def of(call_inputs: dict[str, Any], slow: SlowRankings) -> dict[str, Any]:
    keep(slow, 10)
    return shown(slow.slowest()[0]._replace(inputs=SlowInputs(**call_inputs)))


def test_what_is_shown_keeps_repeats_and_order_but_neither_items_nor_times(slow: SlowRankings) -> None:
    records = np.zeros(4, dtype=RECORD)
    records["item"] = item_keys([ITEM, "i2", ITEM, "i3"])
    records["time_ms"] = [1_699_999_000_123, 1_699_999_990_456, 1_699_999_999_788, 1_699_999_999_789]
    records["play_ms"], records["action"] = [1_234, 0, 77, 56_789], [1, 2, 3, 4]
    seen = of(
        {
            "records": records, "items": np.array([7, 8, 7, 0]), "candidates": np.array([9, 7]),
            "item_count": 1_000_000, "request_time_ms": 1_700_000_000_000, "explain": False, "context": {},
            "described": 0,
        },
        slow,
    )["inputs"]  # fmt: skip
    items, candidates = seen["behaviours"]["item"], seen["candidates"]
    assert (items[0] == items[2] == candidates[1], items[3]) == (True, 0)
    assert len({*items, *candidates}) == 4
    assert not {7, 8, 9} & {*items, *candidates}  # three in a million would be a miracle
    assert seen["behaviours"]["age_ms"] == [1_000_000, 9_500, 210, 210]
    assert seen["behaviours"]["play_ms"] == [1_200, 0, 77, 57_000]
    assert seen["request_time_ms"] == 1_699_999_200_000


def test_no_id_and_no_exact_time_is_shown(slow: SlowRankings) -> None:
    call = a_call(10)
    call.request_id = "r1"
    slow.keep(call, Exchange([], 0.0))
    text = json.dumps([shown(one) for one in slow.slowest()])
    assert "canary" not in text


def test_all_items_of_a_small_vocabulary_can_be_relabelled() -> None:
    items, candidates = relabelled(np.array([0, 1, 2, 3]), np.array([3, 2, 1]), 3)
    assert items[0] == 0
    assert sorted(candidates) == [1, 2, 3]
    assert items[1:] == candidates[::-1]


def test_two_digits_keep_the_order() -> None:
    numbers = np.sort(np.random.default_rng(1).integers(-(10**6), 10**12, 10_000))
    rounded = two_digits(numbers)
    assert (np.diff(rounded) >= 0).all()
    assert two_digits(np.array([0, 7, 99, 996, 1_049, -12_345])).tolist() == [0, 7, 99, 1_000, 1_000, -12_000]


def test_a_stage_of_its_own_for_what_no_other_has(slow: SlowRankings) -> None:
    call = a_call(1.0)
    call.timings |= {"store": 0.25, "order": 0.25, "total": 0.75}
    exchange = SimpleNamespace(began=call.began - 0.5, trace_id="t")
    slow.keep(call, exchange)  # type: ignore[arg-type]  # as much of an exchange as is read
    [one] = slow.slowest()
    assert one.stages == {"read": 0.5, "store": 0.25, "order": 0.25, "write": 0.25, "other": 0.25}
    assert (one.trace_id, one.status, one.inputs) == ("t", 200, None)
