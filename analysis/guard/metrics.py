"""Metrics of the guard (docs/guard.md describes them)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from analysis.guard.rails import Finding


class Metrics:
    """Counts readings and stops, and notes the findings of the last reading."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._readings = Counter("ranker_guard_readings", "Readings.", ("result",), registry=self.registry)
        for result in ("done", "failed"):
            self._readings.labels(result)
        self._last = Gauge(
            "ranker_guard_last_reading_timestamp_seconds", "Time of the last reading that was done.",
            registry=self.registry,
        )  # fmt: skip
        self._stops = Counter("ranker_guard_stops", "Experiments stopped.", ("experiment",), registry=self.registry)
        labels = ("experiment", "treatment", "guardrail")
        self._harm = Gauge(
            "ranker_guard_harm", "Harm beyond the allowed amount; below 0 there is none.", labels,
            registry=self.registry,
        )  # fmt: skip
        self._bound = Gauge(
            "ranker_guard_harm_at_least", "The harm is at least this; above 0 the experiment is stopped.", labels,
            registry=self.registry,
        )  # fmt: skip
        self._shown: dict[Gauge, set[tuple[str, str, str]]] = {self._harm: set(), self._bound: set()}

    def serve(self, host: str, port: int) -> None:
        """Open the port for Prometheus.

        Raises:
            OSError: it is in use.
        """
        start_http_server(port, host, self.registry)

    def watches(self, experiment: str) -> None:
        """Show 0 stops of a running experiment: Prometheus sees a rise only from a first value."""
        self._stops.labels(experiment)

    def read(self, result: str) -> None:
        """Count a reading: `done` or `failed`."""
        self._readings.labels(result).inc()
        if result == "done":
            self._last.set(time.time())

    def found(self, findings: Iterable[tuple[str, Finding]]) -> None:
        """Show the guardrails of the running experiments, in place of those of the last reading.

        A guardrail that stays is never absent in between: a scrape may come at any time.
        """
        harms, bounds = {}, {}
        for experiment, finding in findings:
            labels = experiment, finding.treatment, finding.rail
            harms[labels] = finding.harm
            if math.isfinite(finding.bound):  # else it has too few units for a bound
                bounds[labels] = finding.bound
        self._show(self._harm, harms)
        self._show(self._bound, bounds)

    def _show(self, gauge: Gauge, values: Mapping[tuple[str, str, str], float]) -> None:
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        for labels in self._shown[gauge] - values.keys():
            gauge.remove(*labels)
        self._shown[gauge] = set(values)

    def stopped(self, experiment: str) -> None:
        """Count an experiment that was stopped."""
        self._stops.labels(experiment).inc()
