from __future__ import annotations

import json
import math

import pytest

from benchmarks.capacity import Cost, Rules, costs, fitted, most, pods, simulated
from benchmarks.figures import SERVING, percentile

RULES = Rules(p99_ms=10, share=0.6, peak=1, zones=3, surge=0.25)


def test_a_fit_gives_back_what_was_measured() -> None:
    cost = fitted(by_itself=0.000_5, among_32=0.000_2)
    assert cost.fixed + cost.each == pytest.approx(0.000_5)
    assert (cost.fixed + 32 * cost.each) / 32 == pytest.approx(0.000_2)
    assert cost.capacity == pytest.approx(5_000)


def test_waits_of_single_rankings_are_those_of_the_formula() -> None:
    """Without a fixed part a batch is its rankings, each of which waits for the whole batch: longer than M/D/1."""
    cost, rate = Cost(0, 0.001), 500.0
    found = simulated(cost, rate)
    mean_alone = 0.001 * (1 + 0.5 / (2 * (1 - 0.5)))  # M/D/1 at half of the capacity
    assert sum(found) / len(found) > mean_alone
    assert min(found) == pytest.approx(0.001)


def test_a_fuller_pod_answers_later_and_a_stricter_p99_allows_less() -> None:
    cost = fitted(0.000_5, 0.000_2)
    assert percentile(simulated(cost, 2_000), 0.99) < percentile(simulated(cost, 4_000), 0.99)
    assert most(cost, RULES, 1.0) == pytest.approx(0.6 * cost.capacity)
    assert most(cost, RULES._replace(p99_ms=3), 1.0) < most(cost, RULES, 1.0)
    assert math.isnan(most(cost, RULES._replace(p99_ms=0.1), 1.0))


@pytest.mark.parametrize(
    ("load", "zones", "expected"),
    [(900, 3, (1, 3, 4)), (9_500, 3, (10, 15, 19)), (9_500, 2, (10, 20, 25)), (9_500, 1, (10, 11, 14))],
)
def test_pods_do_without_one_of_them_and_without_a_zone(load: float, zones: int, expected: tuple[int, ...]) -> None:
    assert pods(load, 1_000, RULES._replace(zones=zones)) == expected


def test_costs_are_those_of_the_committed_results() -> None:
    found = costs(json.loads((SERVING / "service.json").read_text(encoding="utf-8")))
    assert found["200 candidates, no state cached"].capacity < found["200 candidates, states cached"].capacity
    assert all(cost.fixed > 0 and cost.each > 0 for cost in found.values())
