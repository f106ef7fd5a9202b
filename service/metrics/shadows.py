"""Metrics of shadows, for each pair of a served bundle and the shadow that scored the same rankings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

from service.metrics.buckets import DIFFERENCES, LATENCY
from service.metrics.families import Families
from service.metrics.values import Counter, Histogram, Made

SIDES: Final = ("served", "shadow")
DropReason = Literal["full", "busy", "late"]
_DISTANCES: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
_OVERLAPS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Differences(Protocol):
    """Differences of scores, without their sign."""

    @property
    def total(self) -> float:
        """Return their sum."""

    @property
    def squares(self) -> float:
        """Return the sum of their squares."""

    @property
    def buckets(self) -> Sequence[int]:
        """Return the candidates by difference."""


class Compared(Protocol):
    """The comparison of one ranking (service/shadow/comparison.py)."""

    @property
    def correlation(self) -> float | None:
        """Return the rank correlation."""

    @property
    def overlap(self) -> float | None:
        """Return the overlap of the heads."""

    @property
    def above(self) -> Differences:
        """Return the differences of candidates to which the shadow gives at least the served score."""

    @property
    def below(self) -> Differences:
        """Return those of the others."""


class _Pair(NamedTuple):
    compared: Counter
    failed: Counter
    distance: Histogram
    overlap: Histogram
    above: Histogram
    below: Histogram
    squares: Counter
    seconds: tuple[Histogram, Histogram]


class ShadowMetrics:
    """Counts what shadows did.

    Args:
        families: where they are declared.
    """

    def __init__(self, families: Families) -> None:
        compared = families.counter(
            "ranker_shadow_rankings_total", "Rankings that a shadow has scored too.", served=(), shadow=()
        )
        failed = families.counter(
            "ranker_shadow_failures_total", "Rankings that a shadow failed to score.", served=(), shadow=()
        )
        self._shadow_drops = families.counter(
            "ranker_shadow_dropped_total", "Rankings that were not given to their shadow.",
            served=(), shadow=(), reason=(),
        )  # fmt: skip
        distance = families.histogram(
            "ranker_shadow_rank_distance", "1 less Spearman's correlation of both orders of a ranking's candidates.",
            _DISTANCES, served=(), shadow=(),
        )  # fmt: skip
        overlap = families.histogram(
            "ranker_shadow_overlap", "Share of the best 10 candidates that both bundles have among their best 10.",
            _OVERLAPS, served=(), shadow=(),
        )  # fmt: skip
        difference = families.histogram(
            "ranker_shadow_score_difference", "How far a candidate's score of the shadow is above or below the served.",
            DIFFERENCES, served=(), shadow=(), side=(),
        )  # fmt: skip
        squares = families.counter(
            "ranker_shadow_score_difference_squares_total", "Sum of the squares of these differences.",
            served=(), shadow=(),
        )  # fmt: skip
        seconds = families.histogram(
            "ranker_shadow_duration_seconds", "Time of the run that scored a ranking, on each side.", LATENCY,
            served=(), shadow=(), side=(),
        )  # fmt: skip

        def pair(names: tuple[str, str]) -> _Pair:
            for reason in ("full", "busy", "late"):
                self._shadow_drops.of(*names, reason)
            one, two = (seconds.of(*names, side) for side in SIDES)
            first = compared.of(*names), failed.of(*names), distance.of(*names), overlap.of(*names)
            above, below = (difference.of(*names, side) for side in ("above", "below"))
            return _Pair(*first, above, below, squares.of(*names), (one, two))

        self._shadows: Made[tuple[str, str], _Pair] = families.by_bundle(pair)

    def shadow_dropped(self, served: str, shadow: str, reason: DropReason) -> None:
        """Count a ranking of the sample that the shadow did not get."""
        _ = self._shadows[served, shadow]
        self._shadow_drops.of(served, shadow, reason).value += 1

    def shadow_failed(self, served: str, shadow: str) -> None:
        """Count a ranking that the shadow did not score."""
        self._shadows[served, shadow].failed.value += 1

    def shadow_compared(
        self, served: str, shadow: str, comparison: Compared, served_seconds: float, shadow_seconds: float
    ) -> None:
        """Observe a ranking that both have scored."""
        pair = self._shadows[served, shadow]
        pair.compared.value += 1
        if comparison.correlation is not None:
            pair.distance.observe(1 - comparison.correlation)
        if comparison.overlap is not None:
            pair.overlap.observe(comparison.overlap)
        for histogram, found in ((pair.above, comparison.above), (pair.below, comparison.below)):
            histogram.add(found.buckets, found.total)
            pair.squares.value += found.squares
        pair.seconds[0].observe(served_seconds)
        pair.seconds[1].observe(shadow_seconds)
