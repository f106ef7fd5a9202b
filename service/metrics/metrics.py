"""All metrics of one application."""

from __future__ import annotations

from collections.abc import Iterable

from service.metrics.access import AccessMetrics
from service.metrics.bundles import BundleMetrics
from service.metrics.drift import DriftMetrics
from service.metrics.experiments import ExperimentMetrics
from service.metrics.exposition import Exposition
from service.metrics.families import Description, Families
from service.metrics.http import HttpMetrics
from service.metrics.process import ProcessMetrics
from service.metrics.ranking import RankingMetrics
from service.metrics.shadows import ShadowMetrics
from service.metrics.store import StoreMetrics


class Metrics(
    HttpMetrics, AccessMetrics, RankingMetrics, StoreMetrics, ExperimentMetrics, BundleMetrics, DriftMetrics,
    ShadowMetrics, ProcessMetrics,
):  # fmt: skip
    """All metrics of one application: plain numbers, which only the event loop's thread changes.

    The two methods that inference threads call (`engine_failed`, `scores_not_finite`) take a lock; no other does.
    """

    def __init__(self) -> None:
        self._families = families = Families()
        HttpMetrics.__init__(self, families)
        AccessMetrics.__init__(self, families)
        RankingMetrics.__init__(self, families)
        StoreMetrics.__init__(self, families)
        ExperimentMetrics.__init__(self, families)
        BundleMetrics.__init__(self, families)
        DriftMetrics.__init__(self, families)
        ShadowMetrics.__init__(self, families)
        ProcessMetrics.__init__(self, families)
        self._exposition = Exposition(families)

    @property
    def descriptions(self) -> list[Description]:
        """Return the description of each of our metrics."""
        return [family.description for family in self._families.all]

    def render(self, others: Iterable[bytes] = ()) -> bytes:
        """Return all metrics in Prometheus' text format; may be called from any thread.

        Args:
            others: dumps of the other processes that serve the same port.
        """
        return self._exposition.render([self.dump(), *others])

    def render_openmetrics(self, others: Iterable[bytes] = ()) -> bytes:
        """Return all metrics in the OpenMetrics format, which has the trace ids of traced requests."""
        return self._exposition.render_openmetrics([self.dump(), *others])

    def dump(self) -> bytes:
        """Return what this process has counted, for `render` in another one; may be called from any thread."""
        return self._exposition.dump()

    def past(self, dumps: Iterable[bytes]) -> bytes:
        """Return what still counts of processes that have ended, as one dump: their counters and histograms.

        Without it, the counters of a service would fall when one of its processes ends.
        """
        return self._exposition.past(dumps)
