"""Decisions that were made before: a unit's decision is pure, so it is kept while it cannot change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.decision import Decision

MAX_REMEMBERED: Final = 20_000  # about 20 MB


class Decisions:
    """Decides as the experiments in force do, and hashes each unit once.

    A decision depends on the snapshot, the unit, its attributes and the time. So all are forgotten when another
    snapshot comes into force or an experiment begins or ends, and none is kept for which a target read attributes.

    Args:
        most: how many are kept; when there are more, all are forgotten.
    """

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        self._snapshot: ExperimentsSnapshot | None = None
        self._from_ms, self._until_ms = 0.0, 0.0
        self._made: dict[object, Decision] = {}

    def of(
        self, snapshot: ExperimentsSnapshot, unit: object, attributes: Mapping[str, object], now_ms: int
    ) -> Decision:
        """Return what `snapshot.decide` returns for the same arguments."""
        if snapshot is not self._snapshot or not self._from_ms <= now_ms < self._until_ms:
            self._made.clear()
            self._snapshot = snapshot
            self._from_ms, self._until_ms = snapshot.steady_about(now_ms)
        if type(unit) is not str or (attributes and snapshot.has_targets):
            return snapshot.decide(unit, attributes, now_ms)
        decision = self._made.get(unit)
        if decision is None:
            if len(self._made) >= self._most:
                self._made.clear()
            decision = self._made[unit] = snapshot.decide(unit, attributes, now_ms)
        return decision
