"""The look of pictures."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from training.reporting import look


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("ndcg@10", "NDCG@10"),
        ("unseen.ndcg@10", "NDCG@10, seen items ruled out"),
        ("unseen.uni100.hr@10", "HR@10, seen items ruled out, 100 uniform negatives"),
        ("alive.mrr@20", "MRR@20, among items alive"),
        ("other.auc", "AUC, other"),
    ],
)
def test_a_metric_is_named_in_words(metric: str, words: str) -> None:
    assert look.in_words(metric) == words


def test_a_range_is_drawn_from_the_lowest_to_the_highest_value() -> None:
    axes = Figure().subplots()
    look.ranged(axes, 3, [20.0, 5.0, 12.0], 12.0, look.BLUE)
    line, dot = axes.lines
    assert np.asarray(line.get_xdata()).tolist() == [5.0, 20.0]
    assert np.asarray(dot.get_xdata()).tolist() == [12.0]
    assert [text.get_text() for text in axes.texts] == ["12"]


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([2.0, 1.0, 3.0], (0.8, 3.2)),
        ([0.5, 0.5], (0.45, 0.55)),
        ([-4.0], (-4.4, -3.6)),
        ([0.0, 0.0], (-0.1, 0.1)),
    ],
)
def test_a_scale_has_a_range_though_all_values_are_equal(values: list[float], ends: tuple[float, float]) -> None:
    assert look.limits(values, margin=0.1) == pytest.approx(ends)
