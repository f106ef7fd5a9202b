"""Every metric of every treatment arm against the control: the rows of the online table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.metrics import BY_NAME, METRICS, Metric, Role
from analysis.statistics import sequence
from analysis.statistics.estimates import Estimate, Sample, benjamini_hochberg, estimate, holm
from analysis.statistics.power import beyond
from analysis.statistics.winsorise import winsorise

ALPHA: Final = 0.05
OTHERS: Final = frozenset({"publish", "comment", "follow", "follow_rate"})
"""Metrics that touch other users, so that arms are not independent."""


@dataclass(frozen=True)
class Sequential:
    """A row read before the planned end: an interval and a p-value that hold at every reading."""

    lift_low: float
    lift_high: float
    p: float
    mde: float  # wider too
    planned: int  # units in both arms


@dataclass(frozen=True)
class Row:
    """One metric in one treatment arm."""

    metric: Metric
    role: Role
    arm: str
    estimate: Estimate | None  # None: there is nothing to compare
    adjusted_p: float | None = None  # Holm for primaries, Benjamini-Hochberg for secondaries, one-sided for guardrails
    sequential: Sequential | None = None  # only in an early reading
    raw: Estimate | None = None  # of a winsorised metric: before that
    flags: tuple[str, ...] = ()

    @property
    def mde(self) -> float | None:
        """Return the relative lift that this test finds with 80% power."""
        if self.estimate is None:
            return None
        return self.estimate.mde if self.sequential is None else self.sequential.mde

    @property
    def moved(self) -> int:
        """Return 1 if the metric got better beyond chance, -1 if worse, 0 if neither was seen.

        A guardrail is tested on its worse side only.
        """
        if self.estimate is None or self.adjusted_p is None or self.adjusted_p >= ALPHA:
            return 0
        if self.role == "guardrail":
            return -1
        return 1 if (self.estimate.lift > 0) == (self.metric.direction == "up") else -1


@dataclass(frozen=True)
class Roles:
    """Which metrics decide, which watch for harm; all others are secondary."""

    primary: tuple[str, ...]
    guardrails: tuple[str, ...]

    def of(self, metric: Metric) -> Role:
        """Return the role of a metric."""
        if metric.name in self.primary:
            return "primary"
        return "guardrail" if metric.name in self.guardrails else "secondary"


DEFAULT_ROLES: Final = Roles(
    *(tuple(one.name for one in METRICS if one.role == role) for role in ("primary", "guardrail"))
)


class Units:
    """The unit table by arm, in the order of the units, so that sums do not depend on the order of the rows.

    Args:
        table: one row per unit: `unit`, `arm`, `complete`, `history`, and columns of the metrics. Only units with a
            complete window are kept.
    """

    def __init__(self, table: pa.Table) -> None:
        table, _ = winsorise(table.filter(table["complete"]).sort_by("unit"))
        arms = np.asarray(table["arm"].to_pylist(), dtype=np.str_)
        self._no_units = np.zeros(0, dtype=np.int64)
        self._places = {str(arm): np.flatnonzero(arms == arm) for arm in np.unique(arms).tolist()}
        self._columns = {name: table[name].to_numpy() for name in table.column_names if name not in ("unit", "arm")}

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of units by arm."""
        return {arm: len(places) for arm, places in self._places.items()}

    def sample(self, metric: Metric, arm: str) -> Sample:
        """Return a metric in an arm, with its history; winsorised, if the metric is."""
        values = [self._column(name, arm) for name in metric.columns]
        before = [self._column(f"{name}_pre", arm) for name in metric.columns]
        history = self._history(arm)
        if metric.kind == "mean":
            return Sample(values[0], before=before[0], history=history)
        return Sample(values[0], values[1], before[0], before[1], history)

    def before(self, metric: Metric, arm: str) -> Sample:
        """Return a metric before the first exposure, of the units of an arm that have history."""
        history = self._history(arm)
        columns = [self._column(f"{name}_pre", arm)[history] for name in metric.columns]
        return Sample(columns[0], columns[1] if metric.kind == "ratio" else None)

    def raw(self, metric: Metric, arm: str) -> Sample:
        """Return a winsorised metric as it was before that, with its history."""
        before = self._column(f"{metric.name}_pre_raw", arm)
        return Sample(self._column(f"{metric.name}_raw", arm), before=before, history=self._history(arm))

    def _history(self, arm: str) -> NDArray[np.bool_]:
        return np.asarray(self._columns["history"][self._places.get(arm, self._no_units)], dtype=np.bool_)

    def _column(self, name: str, arm: str) -> NDArray[np.float64]:
        return np.asarray(self._columns[name][self._places.get(arm, self._no_units)], dtype=np.float64)


def compare(
    units: Units, roles: Roles, arms: Sequence[str], control: str, planned: Mapping[str, int] | None = None
) -> list[Row]:
    """Return the rows of all metrics and treatment arms, with p-values adjusted over metrics and arms of a role.

    Args:
        units: with complete windows.
        roles: of the metrics.
        arms: the treatment arms, in the order of the table.
        control: the arm that they are compared with.
        planned: units in both arms at the planned end, by treatment arm; given if this is an early reading.
    """
    rows = [_row(units, metric, roles, arm, control) for metric in METRICS for arm in arms]
    if planned is not None:
        rows = [replace(row, sequential=_sequential(row.estimate, planned[row.arm])) for row in rows]
    return [replace(row, flags=_flags(row)) for row in _with_adjusted_p(rows)]


def roles_of(
    primary: Iterable[str], guardrails: Iterable[str], secondary: Iterable[str] = ()
) -> tuple[Roles, list[str]]:
    """Return the roles that an experiment names, or the default ones, and its metrics that are not computed here."""
    named, watched = tuple(primary), tuple(guardrails)
    unknown = [name for name in (*named, *watched, *secondary) if name not in BY_NAME]
    roles = Roles(
        tuple(name for name in named if name in BY_NAME) or DEFAULT_ROLES.primary,
        tuple(name for name in watched if name in BY_NAME) or DEFAULT_ROLES.guardrails,
    )
    return roles, unknown


def _row(units: Units, metric: Metric, roles: Roles, arm: str, control: str) -> Row:
    found = estimate(units.sample(metric, control), units.sample(metric, arm))
    raw = estimate(units.raw(metric, control), units.raw(metric, arm)) if metric.winsorised else None
    return Row(metric, roles.of(metric), arm, found, raw=raw)


def _sequential(found: Estimate | None, planned: int) -> Sequential | None:
    if found is None:
        return None
    n = found.n_control + found.n_treatment
    half = sequence.half_width(found.log_error, n, planned)
    middle = math.log1p(found.lift)
    p = sequence.p_value(found.difference, found.error, n, planned)
    mde = beyond(half, found.log_error)
    return Sequential(math.expm1(middle - half), math.expm1(middle + half), p, mde, planned)


def _with_adjusted_p(rows: list[Row]) -> list[Row]:
    adjusted: dict[str, float] = {}
    for role, method in (("primary", holm), ("secondary", benjamini_hochberg)):
        adjusted |= method({_key(row): _p(row) for row in rows if row.role == role and row.estimate is not None})
    adjusted |= {_key(row): _harm_p(row) for row in rows if row.role == "guardrail" and row.estimate is not None}
    return [replace(row, adjusted_p=adjusted.get(_key(row))) for row in rows]


def _key(row: Row) -> str:
    return f"{row.metric.name} {row.arm}"


def _p(row: Row) -> float:
    assert row.estimate is not None
    return row.estimate.p if row.sequential is None else row.sequential.p


def _harm_p(row: Row) -> float:
    """Return the one-sided p-value of harm; in an early reading half of the always-valid one at twice the level."""
    found = row.estimate
    assert found is not None
    harmful = found.lift < 0 if row.metric.direction == "up" else found.lift > 0
    if row.sequential is None:
        return found.p_less if row.metric.direction == "up" else found.p_greater
    n = found.n_control + found.n_treatment
    p = sequence.p_value(found.difference, found.error, n, row.sequential.planned, alpha=2 * ALPHA)
    return p / 2 if harmful else 1.0


def _flags(row: Row) -> tuple[str, ...]:
    found = row.estimate
    if found is None:
        return ("nothing to compare",)
    flags = {
        "no covariate": found.variance_kept is None,
        "smaller than the MDE": row.moved != 0 and abs(found.lift) < (row.mde or 0.0),
        "touches other users": row.metric.name in OTHERS,
        "winsorised": row.metric.winsorised,
    }
    return tuple(name for name, is_set in flags.items() if is_set)
