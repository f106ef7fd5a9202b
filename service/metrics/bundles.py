"""Metrics of bundles and their engines."""

from __future__ import annotations

from collections import Counter
from typing import Final

from service.metrics.families import Families

_DROPPED_KEPT: Final = 8  # bundles: their last counts are scraped, and the series do not grow forever


class BundleMetrics:
    """Counts loadings and faults of bundles, and notes which are loaded.

    Args:
        families: where they are declared.
    """

    def __init__(self, families: Families) -> None:
        self._forget = families.forget_bundle
        self._served = Counter[tuple[str, str]]()  # name, provider: a bundle that is loaded again is there twice
        self._dropped: dict[str, None] = {}  # in the order of their drops
        self._bundles = families.gauge(
            "ranker_bundle_info", "1 for each bundle that is loaded.", "max",
            bundle=(), model=(), version=(), provider=(),
        )  # fmt: skip
        self._loads = families.counter(
            "ranker_bundle_load_total", "Loadings of a bundle.", result=("ok", "failed", "untrusted")
        )
        # The inference threads count in these two.
        self._engine_failures = families.shared_counter(
            "ranker_engine_failures_total", "Runs of a graph that failed.", bundle=()
        )
        self._unscored = families.shared_counter(
            "ranker_unscored_items_total", "Candidates without a finite score.", bundle=()
        )
        self._slow = families.gauge("ranker_bundle_slow", "1 while requests avoid a slow bundle.", "max", bundle=())
        self._runs_ended = families.counter(
            "ranker_runs_ended_total", "Batches ended because they took too long.", bundle=()
        )

    def bundle_loaded(self, result: str) -> None:
        """Count a loading: `ok`, `failed`, or `untrusted` if no accepted key signed it."""
        self._loads.of(result).inc()

    def bundle_served(self, model: str, version: str, provider: str) -> None:
        """Note a bundle that is loaded, and where it truly runs."""
        name = f"{model}@{version}"
        self._served[name, provider] += 1
        self._dropped.pop(name, None)
        self._bundles.of(name, model, version, provider).value = 1
        for faults in (self._engine_failures, self._unscored, self._runs_ended):
            faults.of(name)
        self._slow.of(name).value = 0

    def bundle_dropped(self, model: str, version: str, provider: str) -> None:
        """Note a bundle that is not loaded any more; its counts stay until more bundles have been dropped.

        Nothing changes for a bundle that has been loaded again in the meantime.
        """
        name = f"{model}@{version}"
        self._served[name, provider] -= 1
        self._served = +self._served
        if (name, provider) not in self._served:
            self._bundles.remove(name, model, version, provider)
        if any(name == served for served, _ in self._served):
            return
        self._slow.remove(name)
        self._dropped[name] = None
        if len(self._dropped) > _DROPPED_KEPT:
            oldest = next(iter(self._dropped))
            del self._dropped[oldest]
            self._forget(oldest)

    def engine_failed(self, bundle: str) -> None:
        """Count a run of a graph that failed; from any thread."""
        self._engine_failures.of(bundle).inc()

    def scores_not_finite(self, bundle: str, candidates: int) -> None:
        """Count candidates for which a model gave no finite score; from any thread."""
        self._unscored.of(bundle).inc(candidates)

    def bundle_slow(self, bundle: str, is_slow: bool) -> None:
        """Note whether requests avoid a bundle because it is slow."""
        self._slow.of(bundle).value = is_slow

    def run_ended(self, bundle: str) -> None:
        """Count a batch that was ended because it took too long."""
        self._runs_ended.of(bundle).inc()
