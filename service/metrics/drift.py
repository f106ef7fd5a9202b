"""Metrics of drift: the spread of each bundle's scores and inputs, and how far it is from a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from service.metrics.families import Families
from service.metrics.values import Labels


class Drifting(Protocol):
    """The counts of one bundle (service/inference/drift.py); may be read from any thread."""

    def observed(self) -> Mapping[Labels, float]:
        """Return the observations by quantity and bucket."""

    def items(self) -> Mapping[Labels, float]:
        """Return the items by kind, and by whether they are known."""

    def reference(self) -> Mapping[Labels, float]:
        """Return the reference shares by quantity and bucket."""

    def unknown(self) -> Mapping[Labels, float]:
        """Return the reference shares of unknown items by kind."""

    def indices(self) -> Mapping[Labels, float]:
        """Return the stability indices by quantity and reference."""


class DriftMetrics:
    """Shows the drift of the served bundles; each scrape asks for it.

    Args:
        families: where they are declared.
    """

    def __init__(self, families: Families) -> None:
        self._drifting: dict[str, Drifting] = {}
        families.counter(
            "ranker_drift_observations_total", "Scores, history lengths and ages, by bucket.",
            bundle=(), of=(), up_to=(),
        ).watch_all(lambda: self._read(lambda one: one.observed()))  # fmt: skip
        families.counter(
            "ranker_drift_items_total", "Items of rankings, by whether the bundle knows them.",
            bundle=(), kind=(), known=(),
        ).watch_all(lambda: self._read(lambda one: one.items()))  # fmt: skip
        families.gauge(
            "ranker_drift_reference_share", "Share of a bucket in the bundle's reference.", "max",
            bundle=(), of=(), up_to=(),
        ).watch_all(lambda: self._read(lambda one: one.reference()))  # fmt: skip
        families.gauge(
            "ranker_drift_reference_unknown_share", "Share of unknown items in the bundle's reference.", "max",
            bundle=(), kind=(),
        ).watch_all(lambda: self._read(lambda one: one.unknown()))  # fmt: skip
        families.gauge(
            "ranker_drift_psi", "Population stability index of the last 10 minutes.", "max",
            bundle=(), of=(), reference=(),
        ).watch_all(lambda: self._read(lambda one: one.indices()))  # fmt: skip

    def drift_begins(self, bundle: str, drifting: Drifting) -> None:
        """Show what a bundle counts, in place of another of the same name."""
        self._drifting[bundle] = drifting

    def drift_ends(self, bundle: str, drifting: Drifting) -> None:
        """Show it no more, unless another one has taken its place."""
        if self._drifting.get(bundle) is drifting:
            del self._drifting[bundle]

    def _read(self, read: Callable[[Drifting], Mapping[Labels, float]]) -> dict[Labels, float]:
        bundles = list(self._drifting.items())  # one step: the event loop may add one meanwhile
        return {(name, *labels): value for name, one in bundles for labels, value in read(one).items()}
