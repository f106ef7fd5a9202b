"""The record of validation against a slow count over generated queries."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from contract.bundle.reference import AGES, LENGTHS
from training.data.prepare import Prepared
from training.data.times import HOUR_MS
from training.judging.candidates import Lifetimes, Seen
from training.judging.reference import reference_of
from training.judging.scores import FixedScores
from training.recipe import Protocol, SplitRecipe
from training.rows.split import split

LENGTH = 6


def binned(values: Sequence[float], edges: Sequence[float]) -> tuple[int, ...]:
    counts = Counter(bisect_left(edges, value) for value in values)
    return tuple(counts[place] for place in range(len(edges) + 1))


@pytest.mark.parametrize("protocol", ["time", "leave_last_out"])
def test_the_record_of_validation_equals_a_slow_count(prepared: Prepared, protocol: Protocol) -> None:
    recipe, rows = SplitRecipe(protocol=protocol), split(prepared, protocol).valid
    rng = np.random.default_rng(3)
    popularity = rng.integers(0, 4, len(prepared.items) + 1).astype(np.float32)  # a quarter of the items are new
    scores = rng.permutation(len(popularity)).astype(np.float32)
    found = reference_of(FixedScores(scores), prepared, recipe, rows, popularity, LENGTH)
    times, items = prepared.columns["times_ms"], prepared.columns["items"]
    histories = list(zip(rows.starts.tolist(), rows.stops.tolist(), rows.times_ms.tolist(), strict=True))
    assert found.queries == len(rows.users)
    assert found.lengths.counts == binned([min(stop - start, LENGTH) for start, stop, _ in histories], LENGTHS)
    assert found.ages is not None
    assert found.ages.counts == binned([(at - int(times[stop - 1])) // 1000 for _, stop, at in histories], AGES)
    read = [int(item) for start, stop, _ in histories for item in items[max(start, stop - LENGTH) : stop]]
    unknown = sum(popularity[item] == 0 for item in read)
    assert (found.behaviours.known, found.behaviours.unknown) == (len(read) - unknown, unknown)
    # Scores are of drawn candidates: each allowed one is as likely as another, so their shares are near the true ones.
    allowed = Seen(prepared).unseen(rows)
    if protocol == "time":
        allowed &= Lifetimes(prepared, round(recipe.alive_margin_hours * HOUR_MS)).alive(rows)
    weights = (allowed[:, 1:] / allowed[:, 1:].sum(axis=1, keepdims=True)).mean(axis=0)
    drawn = sum(found.scores.counts)
    assert drawn == found.candidates.known + found.candidates.unknown == 100 * min(500, len(rows.users))
    assert found.candidates.unknown_share == pytest.approx(weights[popularity[1:] == 0].sum(), abs=0.05)
    places = np.array([bisect_left(found.scores.edges, score) for score in scores[1:]])
    expected = [float(weights[places == place].sum()) for place in range(len(found.scores.counts))]
    assert [count / drawn for count in found.scores.counts] == pytest.approx(expected, abs=0.05)


def test_the_record_is_the_same_each_time(prepared: Prepared) -> None:
    recipe, rows = SplitRecipe(), split(prepared, "leave_last_out").valid
    popularity = np.ones(len(prepared.items) + 1, dtype=np.float32)
    one, other = (reference_of(FixedScores(popularity), prepared, recipe, rows, popularity, 4) for _ in range(2))
    assert one == other
    assert one.candidates.unknown == 0
    assert (one.scores.edges, one.scores.counts[1]) == ((1.0,), 0)  # equal scores are one bucket
