"""The credit of users by hand, and of 20,000 simulated users whose lists the real draft merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.interleave.credit import Counted, count
from analysis.interleave.estimate import finding, preference
from analysis.rules import Study
from analysis.tables.database import Resources, database
from contract.command_line import CommandError
from contract.experiments.interleaving import Draft, team_draft
from tests.support.event_tables import SECOND, T0, Events, Row, write_rows
from tests.support.interleaved_users import ranking, simulated

C, T = "control", "treatment"


def counted(folder: Path, rankings: Sequence[Row], activity: Sequence[Row] = (), study: Study | None = None) -> Counted:
    write_rows(folder, "rankings", rankings)
    write_rows(folder, "activity", activity)
    with database(Resources(threads=1)) as opened:
        return count(opened, folder, study or Study("e"))


def credits(folder: Path, events: Events, *rankings: Row, credit: str = "valid_play") -> list[float]:
    return list(counted(folder, rankings, events.rows).credit[credit])


def play(events: Events, req: str, item: str, seconds: float = 10, unit: str = "u", length: float = 60) -> None:
    events.add(
        "play_end", T0, unit, item=item, view=f"{req}/{item}", req=req, play_ms=int(seconds * SECOND),
        duration_ms=int(length * SECOND),
    )  # fmt: skip


@pytest.mark.parametrize(("played", "credit"), [("1 2 3 4", 1), ("1 4", 1), ("2 3", -1), ("1 2", 0), ("3", 0), ("", 0)])
def test_a_ranking_is_won_by_the_team_with_more_items_that_got_credit(
    tmp_path: Path, played: str, credit: float
) -> None:
    events = Events()
    for number in played.split():
        play(events, "r", f"i{number}")
    assert credits(tmp_path, events, ranking("u", "r", [T, C, None, T])) == [credit]


def test_a_user_s_credit_is_the_mean_over_rankings_with_teams(tmp_path: Path) -> None:
    events = Events()
    play(events, "r1", "i1")
    play(events, "r3", "i1")
    play(events, "r4", "i1")
    lists = [ranking("u", "r1", [T, C]), ranking("u", "r2", [T, C]), ranking("u", "r3", [C, T])]
    agreed, alone = ranking("u", "r4", [None, None]), ranking("u", "r5", [None], ranks=False, outcome="degraded")
    found = counted(tmp_path, [*lists, agreed, alone], events.rows)
    assert list(found.credit["valid_play"]) == [0.0]
    assert (found.rankings, found.drafted, found.one_model, found.first, found.users) == (5, 3, 1, 2, 1)


def test_an_item_counts_once_and_only_for_its_own_user_and_ranking(tmp_path: Path) -> None:
    events = Events()
    for _ in range(3):
        play(events, "r", "i1")
    play(events, "r", "i2", unit="other")
    play(events, "another", "i2")
    play(events, "r", "i9")
    events.add("play_end", T0, item="i2", view="v", play_ms=60_000, duration_ms=60_000)  # without a request id
    assert credits(tmp_path, events, ranking("u", "r", [T, C])) == [1.0]


@pytest.mark.parametrize(
    ("seconds", "length", "valid", "finish"),
    [(7, 60, 1, 0), (6.9, 60, 0, 0), (5, 5, 1, 1), (4.9, 5, 0, 0), (60, 60, 1, 1)],
)
def test_valid_plays_and_finishes_are_those_of_the_report(
    tmp_path: Path, seconds: float, length: float, valid: float, finish: float
) -> None:
    events = Events()
    play(events, "r", "i1", seconds, length=length)
    found = counted(tmp_path, [ranking("u", "r", [T, C])], events.rows)
    assert [found.credit[name][0] for name in ("valid_play", "finish", "like")] == [valid, finish, 0]


@pytest.mark.parametrize(("after", "credit"), [(59, 0.0), (60, 0.0), (61, -1.0)])
def test_a_like_that_is_undone_within_a_minute_gives_no_credit(tmp_path: Path, after: int, credit: float) -> None:
    events = Events()
    events.add("like", T0, item="i2", req="r")
    events.add("unlike", T0 + after * SECOND, item="i2", req="r")
    assert credits(tmp_path, events, ranking("u", "r", [T, C]), credit="like") == [credit]


def test_a_request_id_that_is_sent_again_is_one_ranking_and_forced_ones_are_none(tmp_path: Path) -> None:
    again = ranking("u", "r", [C, T], id="later", ts=T0 + 1)
    forced = ranking("u", "f", [T, C], arms=[{"layer": "rank", "exp": "e", "arm": "interleaved", "forced": 1}])
    other = ranking("u", "o", [T, C], arms=[{"layer": "rank", "exp": "x", "arm": "interleaved", "forced": 0}])
    found = counted(tmp_path, [ranking("u", "r", [T, C]), again, forced, other])
    assert (found.rankings, found.first) == (1, 1)


def test_what_arrives_after_the_end_is_not_read(tmp_path: Path) -> None:
    events = Events()
    play(events, "r", "i1")
    rankings = [ranking("u", "r", [T, C], ts=T0 - 1), ranking("u", "late", [T, C])]
    found = counted(tmp_path, rankings, events.rows, Study("e", end_ms=T0))
    assert (found.rankings, list(found.credit["valid_play"])) == (1, [0.0])


@pytest.mark.parametrize(
    ("rankings", "words"),
    [
        ([], "no ranking of experiment 'e' is interleaved"),
        ([ranking("u", "r", [None])], "both models always agree"),
        ([ranking("u", "r", [C, T, "third"])], "has the teams control, third, treatment"),
    ],
)
def test_rankings_that_compare_no_two_models_are_an_error(tmp_path: Path, rankings: list[Row], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        counted(tmp_path, rankings)


def test_credit_that_nearly_all_played_items_give_decides_nothing(tmp_path: Path) -> None:
    rankings, activity = simulated(200, (0.6, 0.2), 2)
    for event in activity:
        event["play_ms"] = 8_000
    found = counted(tmp_path, rankings, activity)
    assert found.shares["valid_play"] == 1.0
    assert "which items were seen" in finding("e", found, "valid_play", simulated=False).sentence
    assert "which items were seen" not in finding("e", found, "finish", simulated=False).sentence
    assert counted(tmp_path / "likes", [ranking("u", "r", [T, C])]).shares == {}


def test_an_estimate_is_scipy_s_t_test() -> None:
    values = np.random.default_rng(5).normal(0.1, 1, 300).clip(-1, 1)
    row, oracle = preference("like", "primary", values), stats.ttest_1samp(values, 0)
    interval = oracle.confidence_interval(0.95)
    assert row.p == pytest.approx(oracle.pvalue, rel=1e-10)
    assert (row.low, row.high) == (pytest.approx(interval.low, rel=1e-10), pytest.approx(interval.high, rel=1e-10))
    assert row.for_treatment + row.for_control + row.neither == 300


@pytest.mark.parametrize("values", [np.ones(9), np.zeros(50), np.zeros(0)])
def test_too_few_users_and_equal_credit_give_no_interval(values: np.ndarray) -> None:
    row = preference("like", "primary", values)
    assert (row.low, row.high, row.p) == (None, None, None)


def z_of(folder: Path, users: int, noise: tuple[float, float], seed: int) -> tuple[Counted, float]:
    found = counted(folder, *simulated(users, noise, seed))
    row = preference("valid_play", "primary", found.credit["valid_play"])
    return found, row.mean / row.error


@pytest.mark.slow
def test_two_equal_models_differ_by_less_than_3_standard_errors_over_20_000_users(tmp_path: Path) -> None:
    found, z = z_of(tmp_path, 20_000, (0.4, 0.4), seed=1)
    assert abs(z) < 3
    assert found.users == 20_000
    assert found.drafted > 19_000
    assert finding("e", found, "valid_play", simulated=True).kind == "no_difference"
    groups = np.array_split(found.credit["valid_play"], 50)  # 95% intervals miss 0 in about 2 or 3 of them
    assert sum(stats.ttest_1samp(group, 0).pvalue < 0.05 for group in groups) <= 8


def test_a_better_model_is_found_and_a_worse_one_too(tmp_path: Path) -> None:
    for noise, kind in (((0.6, 0.2), "better"), ((0.2, 0.6), "worse")):
        found, z = z_of(tmp_path / kind, 1_000, noise, seed=2)
        assert abs(z) > 3
        assert finding("e", found, "valid_play", simulated=False).kind == kind


def test_a_draft_without_fair_coins_fails_these_tests(tmp_path: Path) -> None:
    def unfair(_: str, first: Sequence[str], second: Sequence[str], limit: int) -> Draft:
        return team_draft("r-1", first, second, limit)

    found = counted(tmp_path, *simulated(4_000, (0.4, 0.4), 1, unfair))
    row = preference("valid_play", "primary", found.credit["valid_play"])
    assert abs(row.mean / row.error) > 3
    verdict = finding("e", found, "valid_play", simulated=True)
    assert verdict.kind == "unreadable"
    assert "fair coins" in verdict.sentence
