"""The counts for the health gates that need the database, and the gates in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from analysis.metrics import METRICS
from analysis.rules import Study
from analysis.statistics.comparisons import Units
from analysis.statistics.estimates import Sample
from analysis.tables.database import Database, quoted
from analysis.units.counts import Notes
from analysis.verdict import gates
from analysis.verdict.gates import Gate
from analysis.verdict.moved import Applied, rules_applied
from analysis.verdict.setup import Setup
from analysis.verdict.versions import Served, moved_together, versions_served

_BAD: Final = "outcome IN ('degraded', 'error', 'refused')"


@dataclass(frozen=True)
class Health:
    """Counts by arm, as far as the data show them.

    Args:
        ranked: units with a ranking in the ranking log; None without a log.
        lost: of these, the units without any exposure.
        requests: rankings that were not ok, over rankings, per unit; from exposures without a log.
        misplaced: exposures whose arm bucket is not in their arm's ranges; None if the ranges are not known.
        versions: that the arms served.
        rules: after scoring, that their logged rankings had.
    """

    ranked: dict[str, int] | None
    lost: dict[str, int] | None
    requests: dict[str, Sample] | None
    misplaced: int | None
    versions: tuple[Served, ...] = ()
    rules: tuple[Applied, ...] = ()


def read_health(opened: Database, study: Study, setup: Setup) -> Health:
    """Count in the tables `exposure`, `two_arms` and `ranking`, which `analysis.units.table` has made."""
    has_log = bool(opened.value("SELECT count(*) FROM ranking"))
    ranked = "SELECT arm, count(DISTINCT unit) FROM ranking ANTI JOIN two_arms USING (unit) WHERE outcome <> 'refused'"
    without = ranked.replace("ANTI JOIN two_arms", "ANTI JOIN exposure")
    return Health(
        dict(opened.rows(f"{ranked} GROUP BY arm ORDER BY arm")) if has_log else None,
        dict(opened.rows(f"{without} GROUP BY arm ORDER BY arm")) if has_log else None,
        _requests(opened, "ranking" if has_log else "exposure"),
        _misplaced(opened, study, setup),
        versions_served(opened),
        rules_applied(opened),
    )


def all_gates(units: Units, counts: pa.Table, notes: Notes, health: Health, setup: Setup) -> tuple[Gate, ...]:
    """Return the gates, the most important first."""
    by_subject = _by_subject(counts)
    exposed = by_subject.get("units", {}).get("", {})
    before = {
        one.title: {arm: units.before(one, arm) for arm in (setup.control, *setup.treatments(exposed))}
        for one in METRICS
    }
    reasons, versions = by_subject.get("reason", {}), moved_together(health.versions)
    return (
        gates.sample_ratio(exposed, units.counts, setup.shares),
        gates.sample_ratio_within("day", by_subject.get("day"), setup.shares),
        gates.sample_ratio_within("platform", by_subject.get("platform"), setup.shares),
        *([gates.sample_ratio_within("reason", reasons, setup.shares)] if len(reasons) > 1 else []),
        gates.before(before, setup.control),
        gates.exposure_loss(health.ranked, health.lost),
        gates.outcomes(health.requests, setup.control),
        gates.one_arm_each(notes.two_arms, notes.units),
        gates.assignment([notes.salt], setup.salt, health.misplaced, setup.unplanned(exposed)),
        *([versions] if versions is not None else []),
    )


def _by_subject(counts: pa.Table) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = {}
    rows: list[dict[str, Any]] = counts.to_pylist()  # Any: columns of several types
    for row in rows:
        found.setdefault(row["subject"], {}).setdefault(row["value"], {})[row["arm"]] = row["n"]
    return found


def _requests(opened: Database, table: str) -> dict[str, Sample]:
    query = f"""
        SELECT arm, count(*)::DOUBLE AS asked, count(*) FILTER (WHERE {_BAD})::DOUBLE AS bad
        FROM {table} ANTI JOIN two_arms USING (unit) GROUP BY arm, unit ORDER BY arm, unit
    """
    found = opened.table("tables", query)
    arms = np.asarray(found["arm"].to_pylist(), dtype=np.str_)
    bad, asked = found["bad"].to_numpy(), found["asked"].to_numpy()
    return {str(arm): Sample(bad[arms == arm], asked[arms == arm]) for arm in np.unique(arms).tolist()}


def _misplaced(opened: Database, study: Study, setup: Setup) -> int | None:
    if setup.ranges is None:
        return None
    inside = [
        f"(arm = {quoted(arm)} AND {setup.bucket} >= {start} AND {setup.bucket} < {stop})"
        for arm, ranges in setup.ranges.items()
        for start, stop in ranges
    ]
    query = f"""
        SELECT count(*) FROM all_exposures
        WHERE exp = {quoted(study.experiment)} AND coalesce(forced, 0) = 0 AND {setup.bucket} IS NOT NULL
          AND NOT ({" OR ".join(inside) or "false"})
    """
    return int(opened.value(query))
