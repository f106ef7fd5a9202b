from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.bundle.vocabulary import Vocabulary
from training.data.prepare import Prepared
from training.rows.split import (
    Rows,
    SplitError,
    impressions,
    instances,
    leave_last_out,
    split,
    training_log,
    training_mask,
)


def _prepared(starts: list[int], **columns: list[int]) -> Prepared:
    """Users with that many interactions each; the item is the place from 1, a second passes between two of a user."""
    count = starts[-1]
    default = {"items": range(1, count + 1), "times_ms": range(1000, 1000 * (count + 1), 1000), "context": [0] * count}
    users = [f"u{k}" for k in range(len(starts) - 1)]
    return Prepared(
        Path("small"),
        {name: np.array(list(values), dtype=np.int64) for name, values in {**default, **columns}.items()},
        np.array(starts, dtype=np.int64),
        Vocabulary([f"i{k}" for k in range(count)]),
        Vocabulary(users),
        {},
        {},
        {"digest": "d", "counts": {"has_times": True}},
    )


def _pairs(rows: Rows) -> list[tuple[int, int, int]]:
    return list(zip(rows.users.tolist(), rows.starts.tolist(), rows.stops.tolist(), strict=True))


def test_the_last_is_test_the_one_before_validation_the_rest_training() -> None:
    found = leave_last_out(_prepared([0, 5, 8]))
    assert _pairs(found.train) == [(0, 0, 1), (0, 0, 2)]
    assert _pairs(found.valid) == [(0, 0, 3), (1, 5, 6)]
    assert _pairs(found.test) == [(0, 0, 4), (1, 5, 7)]
    assert found.test.items.tolist() == [5, 8]
    assert found.test.times_ms.tolist() == [5000, 8000]


def test_five_can_be_held_out() -> None:
    found = leave_last_out(_prepared([0, 20]), held=5)
    assert found.test.stops.tolist() == [15, 16, 17, 18, 19]
    assert found.valid.stops.tolist() == [10, 11, 12, 13, 14]
    assert found.train.stops.tolist() == list(range(1, 10))


STARTS = [0, 1, 3, 6, 10, 10, 25]
FIRST = {0, 1, 3, 6, 10}


@pytest.mark.parametrize("held", [1, 2, 5])
def test_every_interaction_but_a_first_one_is_one_target_however_short_the_user(held: int) -> None:
    found = leave_last_out(_prepared(STARTS), held)
    targets = np.concatenate([part.stops for part in found])
    assert sorted(targets.tolist()) == sorted(set(range(25)) - FIRST)
    assert all((part.starts < part.stops).all() for part in found)


def test_training_never_holds_a_held_out_interaction() -> None:
    prepared = _prepared(STARTS)
    found = leave_last_out(prepared, 2)
    mask = training_mask(prepared, "leave_last_out", 2)
    assert not mask[found.test.stops].any()
    assert not mask[found.valid.stops].any()
    assert mask[found.train.stops].all()
    assert mask[sorted(FIRST)].all()


def _two_users() -> Prepared:
    """User 0: context at 5 s, then 10, 30, 50 ... 170 s; user 1: 20, 40 ... 180 s."""
    times = [5, *range(10, 180, 20), *range(20, 200, 20)]
    return _prepared(
        [0, 10, 19], times_ms=[1000 * time for time in times], context=[1, *[0] * 18], items=list(range(1, 20))
    )


def test_a_time_split_follows_the_clock_over_all_users() -> None:
    prepared = _two_users()
    found = split(prepared, "time")
    times = [part.times_ms.tolist() for part in found]
    # a user's first one has no history
    assert [time // 1000 for part in times for time in part] == [10, 30, 40, *range(50, 190, 10)]
    assert [len(part) for part in times] == [11, 3, 3]
    assert max(times[0]) < min(times[1])
    assert max(times[1]) < min(times[2])


def test_context_is_history_and_never_a_target() -> None:
    prepared = _two_users()
    rows = np.concatenate([part.stops for part in split(prepared, "time")])
    assert 0 not in rows
    assert 1 in rows  # with only the context as its history


def test_a_time_splits_log_ends_where_validation_begins() -> None:
    prepared = _two_users()
    log = training_log(prepared, training_mask(prepared, "time"), context=False)
    begin = split(prepared, "time").valid.times_ms.min()
    assert log.times_ms.max() < begin
    assert (np.diff(log.times_ms) >= 0).all()
    assert 1 not in log.items  # context: known, but nothing that was learnt from
    assert set(log.users) == {1, 2}
    assert len(log.items) == int((prepared.columns["times_ms"] < begin).sum()) - 1
    assert 1 in training_log(prepared, training_mask(prepared, "time")).items


def test_an_impressions_history_ends_strictly_before_it() -> None:
    shown = {
        "users": np.array([0, 1, 0, 1]),
        "items": np.array([7, 8, 9, 2]),
        "times_ms": np.array([1_000, 40_000, 40_000, 999_000]),
        "labels": np.array([1, 0, 0, 1]),
    }
    rows = impressions(replace(_two_users(), impressions=shown))
    assert rows.starts.tolist() == [0, 10, 0, 10]
    assert rows.stops.tolist() == [
        0,
        11,
        3,
        19,
    ]  # the click of user 1 at 40 s is not in the history of the impression at 40 s
    assert rows.labels is not None
    assert rows.labels.tolist() == [1, 0, 0, 1]


def test_data_without_times_or_impressions_say_so() -> None:
    prepared = _prepared([0, 5])
    with pytest.raises(SplitError, match="small has no impressions"):
        split(prepared, "impressions")
    timeless = replace(prepared, provenance={"digest": "d", "counts": {"has_times": False}})
    with pytest.raises(SplitError, match="small has no times"):
        split(timeless, "time")
    assert len(split(timeless, "leave_last_out").test.stops) == 1


def test_the_last_hours_are_test_and_those_before_them_validation(prepared: Prepared) -> None:
    rows = instances(prepared)
    end, span = int(rows.times_ms[-1]), int(np.ptp(rows.times_ms))
    hours = (0.1 * span / 3_600_000, 0.2 * span / 3_600_000)
    parts, mask = split(prepared, "time", hours=hours), training_mask(prepared, "time", hours=hours)
    assert parts.test.times_ms.min() > end - 0.2 * span - 1
    assert end - 0.3 * span - 1 < parts.valid.times_ms.min() <= parts.valid.times_ms.max() <= end - 0.2 * span + 1
    assert parts.train.times_ms.max() <= end - 0.3 * span + 1
    assert sum(len(part.items) for part in parts) == len(rows.items)
    assert prepared.columns["times_ms"][mask].max() < parts.valid.times_ms.min()


def test_hours_without_a_query_are_an_error(prepared: Prepared) -> None:
    with pytest.raises(SplitError, match="no queries for train"):
        split(prepared, "time", hours=(1.0, 80_000.0))


@pytest.mark.slow
def test_the_history_of_an_impression_is_its_own_users_with_many_million_users() -> None:
    """A user's number times a time of 2026 in milliseconds needs more than 63 bits from 5.2 million users on."""
    count, now = 5_500_000, 1_790_000_000_000
    starts = np.zeros(count + 1, dtype=np.int64)
    starts[1:], starts[-1] = 1, 3
    prepared = _prepared([0, 3], times_ms=[now, now - 2000, now])
    shown = {name: np.array(values) for name, values in (
        ("users", [count - 1, 0]), ("items", [1, 1]), ("times_ms", [now - 1000, now + 1]), ("labels", [0, 0])
    )}  # fmt: skip
    found = impressions(replace(prepared, users=range(count), user_starts=starts, impressions=shown))  # type: ignore[arg-type] # ids take a gigabyte
    assert _pairs(found) == [(count - 1, 1, 2), (0, 0, 1)]


def test_hours_without_an_event_are_named() -> None:
    prepared = _prepared([0, 10], times_ms=[1000 * place for place in range(9)] + [36_000_000])
    with pytest.raises(SplitError, match=r"no queries for valid: valid_hours = 4 and test_hours = 4 leave none there"):
        split(prepared, "time", hours=(4.0, 4.0))


@pytest.mark.parametrize(
    ("valid", "test", "message"),
    [([1, 0], [0] * 4, "all 4 .* of test are negative"), ([1, 1], [1, 0] * 2, "all 2 .* of validation are positive")],
)
def test_impressions_of_one_label_judge_nothing(valid: list[int], test: list[int], message: str) -> None:
    labels = [1, 0] * 7 + valid + test
    shown = {name: np.array(values) for name, values in (
        ("users", [0] * 20), ("items", [1] * 20), ("times_ms", range(20)), ("labels", labels)
    )}  # fmt: skip
    with pytest.raises(SplitError, match=message):
        split(replace(_prepared([0, 3]), impressions=shown), "impressions")
