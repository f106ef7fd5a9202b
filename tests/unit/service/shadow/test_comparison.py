"""The comparison of the scores of two bundles equals a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from service.metrics import Metrics
from service.metrics.buckets import DIFFERENCES
from service.shadow.comparison import compare


def scores(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_the_correlation_is_spearman_s_with_ties_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (rng.integers(0, 12, 40).astype(np.float32) for _ in range(2))
    found = compare(one, other).correlation
    assert found is not None
    assert found == pytest.approx(spearmanr(one, other).statistic)


def test_the_same_scores_agree_and_the_opposite_ones_do_not() -> None:
    rising = np.arange(15, dtype=np.float32)
    assert compare(rising, rising)[1:3] == (pytest.approx(1.0), 1.0)
    assert compare(rising, -rising)[1:3] == (pytest.approx(-1.0), 0.5)  # the middle 5 of 15


def test_one_candidate_or_equal_scores_have_no_correlation() -> None:
    assert compare(scores(1), scores(2)).correlation is None
    assert compare(scores(1, 1), scores(2, 3)).correlation is None
    assert compare(scores(), scores())[:3] == (0, None, None)


def test_differences_are_counted_by_sign_and_size() -> None:
    found = compare(scores(0, 0, 0, 0), scores(0.05, 20, 0, -2))
    assert (found.above.total, found.below.total) == (pytest.approx(20.05), 2.0)
    assert found.below.squares == 4.0
    assert found.above.buckets == (1, 0, 0, 1, 0, 0, 0, 0, 1)
    assert len(found.below.buckets) == len(DIFFERENCES) + 1
    assert found.below.buckets.index(1) == DIFFERENCES.index(3.0)


def test_the_metrics_give_the_mean_and_the_spread_of_the_differences() -> None:
    rng = np.random.default_rng(3)
    one, other = (rng.normal(size=500).astype(np.float32) for _ in range(2))
    metrics = Metrics()
    metrics.shadow_compared("a@1", "b@1", compare(one, other), 0.001, 0.002)
    lines = dict(line.rsplit(" ", 1) for line in metrics.render().decode().splitlines() if "_score_diff" in line)
    pair = 'served="a@1",shadow="b@1"'
    name = "ranker_shadow_score_difference"
    total, count = (
        [float(lines[f'{name}_{part}{{{pair},side="{side}"}}']) for side in ("above", "below")]
        for part in ("sum", "count")
    )
    squares = float(lines[f"{name}_squares_total{{{pair}}}"])
    mean = (total[0] - total[1]) / sum(count)
    assert sum(count) == 500
    assert mean == pytest.approx(float((other - one).mean()), abs=1e-6)
    assert np.sqrt(squares / 500 - mean**2) == pytest.approx(float((other - one).std()), rel=1e-5)
