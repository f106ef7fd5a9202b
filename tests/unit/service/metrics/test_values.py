"""The values behind the metrics count as prometheus_client's do."""

from __future__ import annotations

import time
from itertools import accumulate, chain
from threading import Thread

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.metrics.bundles import BundleMetrics
from service.metrics.experiments import ExperimentMetrics
from service.metrics.families import Families
from service.metrics.http import HttpMetrics
from service.metrics.process import ProcessMetrics
from service.metrics.ranking import RankingMetrics
from service.metrics.store import StoreMetrics
from service.metrics.values import Histogram, Made, SharedCounter

BOUNDS = (0.0, 0.1, 0.25, 1.0)
PARTS = (HttpMetrics, RankingMetrics, StoreMetrics, ExperimentMetrics, BundleMetrics, ProcessMetrics)


@given(st.lists(st.sampled_from([*BOUNDS, -1.0]) | st.floats(-2, 3), max_size=20))
def test_a_histogram_counts_as_the_library_does(values: list[float]) -> None:
    ours = Histogram(BOUNDS)
    theirs = prometheus_client.Histogram("h", "h", buckets=BOUNDS, registry=None)
    for value in values:
        ours.observe(value)
        theirs.observe(value)
    samples = {(one.name, one.labels.get("le")): one.value for family in theirs.collect() for one in family.samples}
    total, *counts = ours.read()
    expected = [samples["h_bucket", bound] for bound in ("0.0", "0.1", "0.25", "1.0", "+Inf")]
    assert list(accumulate(counts)) == expected
    assert total == pytest.approx(sum(values))


class Interrupted(int):
    """An amount that lets another thread run in the middle of an addition."""

    def __radd__(self, other: float) -> float:
        time.sleep(0)
        return other + int(self)


def test_a_counter_of_all_threads_loses_nothing() -> None:
    counter = SharedCounter()
    threads = [Thread(target=lambda: [counter.inc(Interrupted(1)) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read() == 2_000


def test_a_made_value_is_made_once() -> None:
    asked: list[str] = []
    made = Made[str, list[str]](lambda key: asked.append(key) or [key])  # type: ignore[func-returns-value]
    assert made["a"] is made["a"]
    assert asked == ["a"]


def test_no_two_parts_of_the_metrics_use_the_same_name() -> None:
    """One class inherits from all parts: a name used twice would be one attribute."""
    fields = list(chain.from_iterable(vars(part(Families())) for part in PARTS))
    methods = [name for part in PARTS for name in vars(part) if not name.startswith("__")]
    assert sorted({*fields, *methods}) == sorted([*fields, *methods])
