"""Who is a candidate, and both rankings and the baselines of every protocol, against plain loops over a small log."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from contract.behaviours.actions import ACTION_CODES
from contract.bundle.tensors import SequenceSpec
from contract.bundle.vocabulary import Vocabulary
from training.data.prepare import Prepared
from training.judging.candidates import Lifetimes, Seen, first_meetings
from training.judging.evaluate import Judge
from training.judging.scores import Scores
from training.judging.views import View
from training.recipe import SplitRecipe
from training.rows.negatives import stored_negatives
from training.rows.split import Rows, instances, split

HOUR = 3_600_000
USERS, ITEMS = 14, 30
SPEC = SequenceSpec(length=3, columns=("items",))


@dataclass(frozen=True)
class Log:
    """A feed of three days: an item is born, gets events for some hours, and dies; users repeat now and then."""

    prepared: Prepared
    events: list[tuple[int, int, int]]  # user, item, time; by user and time


@pytest.fixture
def log(tmp_path: Path) -> Log:
    rng = np.random.default_rng(7)
    events = []
    for user in range(USERS):
        past: list[int] = []
        for time in np.sort(rng.integers(0, 72, 12)).tolist():
            alive = [item for item in range(1, ITEMS + 1) if 2 * item - 8 <= time <= 2 * item + 6] or [ITEMS]
            repeated = past and rng.random() < 0.15
            item = int(rng.choice(past)) if repeated else int(rng.choice(alive))
            past.append(item)
            events.append((user, item, 500_000 * HOUR + time * HOUR + int(rng.integers(HOUR))))
    events.sort(key=lambda event: (event[0], event[2]))
    users, items, times = (np.array(column, dtype=np.int64) for column in zip(*events, strict=True))
    counts = np.bincount(users, minlength=USERS)
    zeros = np.zeros(len(events), dtype=np.int64)
    columns = {"items": items, "times_ms": times, **dict.fromkeys(("actions", "values", "plays", "context"), zeros)}
    prepared = Prepared(
        tmp_path,
        columns,
        np.concatenate(([0], np.cumsum(counts))),
        Vocabulary([f"i{k}" for k in range(ITEMS)]),
        Vocabulary([f"u{k}" for k in range(USERS)]),
        {},
        {},
        {"digest": "d", "counts": {"has_times": True}},
    )
    return Log(prepared, events)


class Random:
    """Scores of every query and item that many items share; a query is known by its place in the log."""

    cells = 5 * (ITEMS + 1)  # several pieces

    def __init__(self, log: Log) -> None:
        self.scores = np.random.default_rng(3).integers(0, 12, (len(log.events), ITEMS + 1)).astype(np.float32)

    def all(self, piece: Rows) -> Scores:
        return self.scores[piece.stops]

    def lists(self, piece: Rows, candidates: np.ndarray) -> Scores:
        return np.take_along_axis(self.scores[piece.stops], candidates, axis=1)


def _history(log: Log, place: int) -> set[int]:
    user = log.events[place][0]
    return {item for other, (owner, item, _) in enumerate(log.events) if owner == user and other < place}


def _alive(log: Log, place: int, margin_ms: int) -> set[int]:
    now = log.events[place][2]
    found = set()
    for item in range(1, ITEMS + 1):
        times = [time for _, one, time in log.events if one == item]
        if times and min(times) < now and max(times) >= now - margin_ms:
            found.add(item)
    return found


def _ndcg(scores: np.ndarray, target: int, candidates: set[int]) -> float:
    """NDCG@10 of one query, a mean over all orders of ties."""
    others = candidates - {target}
    better = sum(scores[item] > scores[target] for item in others)
    same = sum(scores[item] == scores[target] for item in others)
    ranks = range(better + 1, better + same + 2)
    return sum(1 / np.log2(rank + 1) for rank in ranks if rank <= 10) / len(ranks)


def _agrees(view: View, expected: list[float]) -> None:
    assert view.values["ndcg@10"] == pytest.approx(expected)


def _judge(log: Log, popularity: np.ndarray | None = None, **recipe: object) -> Judge:
    counts = np.ones(ITEMS + 1, dtype=np.float32) if popularity is None else popularity
    return Judge(log.prepared, SPEC, SplitRecipe.model_validate(recipe), "test", counts)


def test_repeats_are_what_a_loop_over_the_log_counts(log: Log) -> None:
    first = first_meetings(log.prepared)
    expected = [log.events[place][1] not in _history(log, place) for place in range(len(log.events))]
    assert first.tolist() == expected
    targets = [place for place in range(len(log.events)) if place not in set(log.prepared.user_starts.tolist())]
    share = np.mean([not expected[place] for place in targets])
    assert 0.05 < share < 0.5
    assert log.prepared.repeat_share == pytest.approx(share)


def test_a_like_after_a_click_on_the_same_item_is_not_a_repeat(log: Log) -> None:
    first = first_meetings(log.prepared)
    others = {**log.prepared.columns, "actions": np.where(first, ACTION_CODES["click"], ACTION_CODES["like"])}
    again = replace(log.prepared, columns=others)
    assert again.repeat_share < log.prepared.repeat_share / 2
    assert (Seen(again).unseen(instances(again)) == Seen(log.prepared).unseen(instances(log.prepared))).all()


def test_candidates_are_what_a_loop_over_the_log_finds(log: Log) -> None:
    rows = instances(log.prepared)
    unseen = Seen(log.prepared).unseen(rows)
    alive = Lifetimes(log.prepared, 5 * HOUR).alive(rows)
    for row, place in enumerate(rows.stops.tolist()):
        target = {int(rows.items[row])}
        assert set(np.flatnonzero(unseen[row, 1:]) + 1) == set(range(1, ITEMS + 1)) - _history(log, place) | target
        assert set(np.flatnonzero(alive[row, 1:]) + 1) == _alive(log, place, 5 * HOUR) | target


def test_an_impression_is_a_sign_of_life(log: Log) -> None:
    late = int(log.prepared.columns["times_ms"].max()) + 100 * HOUR
    shown = {"users": [0], "items": [15], "times_ms": [late], "labels": [0]}
    mine = replace(log.prepared, impressions={name: np.array(values) for name, values in shown.items()})
    query = Rows(*(np.array([value]) for value in (0, 0, 1, 9, late - HOUR)))
    assert Lifetimes(mine, HOUR).alive(query)[0, 15]
    assert not Lifetimes(log.prepared, HOUR).alive(query)[0, 15]


def test_both_rankings_of_leave_last_out(log: Log) -> None:
    random, rows = Random(log), split(log.prepared, "leave_last_out", 2).test
    views = _judge(log, held=2).judged(random)
    places, everything = rows.stops.tolist(), set(range(1, ITEMS + 1))
    scores = [random.scores[place] for place in places]
    targets = rows.items.tolist()
    unseen = [everything - _history(log, place) for place in places]
    _agrees(views[""], [_ndcg(*one, everything) for one in zip(scores, targets, strict=True)])
    _agrees(views["unseen"], [_ndcg(*one) for one in zip(scores, targets, unseen, strict=True)])
    assert any(target in _history(log, place) for target, place in zip(targets, places, strict=True))
    ones = np.ones(ITEMS + 1, dtype=np.float32)
    negatives = stored_negatives(log.prepared, "leave_last_out-2-test", "uni100", rows, ones)
    for row, place in enumerate(places):
        listed = [item for item in negatives[row].tolist() if item not in _history(log, place)]
        better = sum(scores[row][item] > scores[row][targets[row]] for item in listed)
        same = sum(scores[row][item] == scores[row][targets[row]] for item in listed)
        expected = min(max(10 - better, 0), same + 1) / (same + 1)
        assert views["unseen.uni100"].values["hr@10"][row] == pytest.approx(expected)


def test_a_split_by_time_ranks_what_is_alive_and_tells_cold_targets_apart(log: Log) -> None:
    random, parts = Random(log), split(log.prepared, "time")
    views = _judge(log, protocol="time", alive_margin_hours=5, ranking="unseen").judged(random)
    rows, end = parts.test, int(parts.valid.times_ms[0])
    candidates = [_alive(log, place, 5 * HOUR) for place in rows.stops.tolist()]
    queries = list(zip(random.scores[rows.stops], rows.items.tolist(), candidates, rows.stops.tolist(), strict=True))
    _agrees(views["alive"], [_ndcg(scores, target, alive) for scores, target, alive, _ in queries])
    unseen = [_ndcg(scores, target, alive - _history(log, place)) for scores, target, alive, place in queries]
    _agrees(views["unseen"], unseen)
    born = {item: min(time for _, one, time in log.events if one == item) for _, item, _ in log.events}
    cold = [born[target] >= end for target in rows.items.tolist()]
    assert 0 < sum(cold) < len(cold)
    _agrees(views["cold"], [value for value, is_cold in zip(unseen, cold, strict=True) if is_cold])
    _agrees(views["warm"], [value for value, is_cold in zip(unseen, cold, strict=True) if not is_cold])


def test_fewer_queries_are_ranked_where_the_recipe_says_so_and_the_same_ones_each_time(log: Log) -> None:
    first, again = (_judge(log, protocol="time", ranked_queries=7).judged(Random(log)) for _ in range(2))
    assert len(first["alive"].users) == len(first["unseen"].users) == 7
    assert len(first[""].users) > 7
    assert first["unseen"].values["ndcg@10"].tolist() == again["unseen"].values["ndcg@10"].tolist()


@pytest.mark.parametrize("protocol", ["leave_last_out", "time"])
def test_baselines_are_scored_on_the_same_queries(log: Log, protocol: str) -> None:
    parts = split(log.prepared, protocol, 2)  # type: ignore[arg-type]
    popularity = np.bincount(parts.train.items, minlength=ITEMS + 1).astype(np.float32)
    found = _judge(log, popularity, protocol=protocol, held=2, alive_margin_hours=5).baselines()
    rows = parts.test
    places = rows.stops.tolist()
    everything = set(range(1, ITEMS + 1))
    base = [everything if protocol == "leave_last_out" else _alive(log, place, 5 * HOUR) for place in places]
    own = [one - _history(log, place) for one, place in zip(base, places, strict=True)]
    scores = {"popularity": [popularity] * len(places), "chance": [np.zeros(ITEMS + 1)] * len(places)}
    if protocol == "time":
        scores["popularity_of_day"] = [_day(log, place) for place in places]
    assert set(found) == set(scores)
    for name, mine in scores.items():
        expected = [_ndcg(*one) for one in zip(mine, rows.items.tolist(), own, strict=True)]
        _agrees(found[name]["unseen"], expected)


def _day(log: Log, place: int) -> np.ndarray:
    """Events of each item in the 24 hours before the full hour of a query."""
    hour = log.events[place][2] // HOUR
    counts = Counter(item for _, item, time in log.events if hour - 24 <= time // HOUR < hour)
    return np.array([counts[item] for item in range(ITEMS + 1)], dtype=np.float32)
