"""The ranking log: the sample of units, and events as rows."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.tables.schemas import RANKINGS
from contract.events.ranking_log import is_sampled, ranking_row
from contract.experiments.buckets import bucket

EVENT: dict[str, Any] = {
    "v": 1, "id": "id", "ts": 7, "req": "r", "unit": "u", "arms": [], "model": "m", "ver": "1", "outcome": "ok",
    "reasons": [], "latency_us": 9, "n_cand": 3, "k": 2, "items": ["a", "b"], "scores": [0.5, None],
    "attributes": {"platform": "ios", "age": 3},
}  # fmt: skip


def test_the_sample_is_the_same_share_of_each_arm_and_contained_in_larger_ones() -> None:
    units = [f"u{number}" for number in range(20_000)]
    arms: dict[bool, list[str]] = {True: [], False: []}
    for unit in units:
        arms[bucket("pyramid-vs-mgnm", "arm", unit) < 5_000].append(unit)
    for members in arms.values():  # 4 standard errors
        assert abs(sum(is_sampled(unit, 0.1) for unit in members) / len(members) - 0.1) < 0.012
    assert all(is_sampled(unit, 0.3) for unit in units if is_sampled(unit, 0.1))
    assert all(is_sampled(unit, 1) and not is_sampled(unit, 0) for unit in units[:1_000])


def test_a_row_has_an_entry_for_each_item_with_its_rank() -> None:
    row = ranking_row(EVENT)
    assert list(row) == RANKINGS.names
    assert row["items"] == [
        {"item": "a", "rank": 1, "score": 0.5, "team": None, "ranks": None},
        {"item": "b", "rank": 2, "score": None, "team": None, "ranks": None},
    ]
    assert row["attributes"] == '{"age": 3, "platform": "ios"}'
    assert ranking_row({**EVENT, "attributes": None})["attributes"] is None


def test_a_row_has_the_teams_of_an_interleaved_list() -> None:
    row = ranking_row({**EVENT, "teams": ["control", None], "ranks": [[1, 2], [2, 1]]})
    assert [(item["team"], item["ranks"]) for item in row["items"]] == [("control", [1, 2]), (None, [2, 1])]


def test_a_row_has_the_rules_and_what_they_moved() -> None:
    row = ranking_row({**EVENT, "rules": "spread", "moved": {"age_limit": 2}})
    assert (row["rules"], row["moved"]) == ("spread", [{"rule": "age_limit", "items": 2}])
    assert (ranking_row(EVENT)["rules"], ranking_row(EVENT)["moved"]) == (None, None)


def test_a_damaged_event_and_a_later_version_are_errors() -> None:
    for change in ({"v": 2}, {"scores": [0.5]}, {"teams": ["control"]}, {"moved": ["x"]}):
        with pytest.raises(ValueError, match=r"version|argument|not an object"):
            ranking_row({**EVENT, **change})
    with pytest.raises(KeyError):
        ranking_row({name: value for name, value in EVENT.items() if name != "unit"})
