"""An answered ranking, in the terms of the shadow that scores it too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from contract.experiments.shadows import ShadowBundle
from service.inference.scorer import ScoredRow
from service.ranking.call import RankCall
from service.ranking.candidates import Candidates, without_scores
from service.shadow.queue import Ranked


class TakesRankings(Protocol):
    """All shadows (service/shadow/shadows.py)."""

    def offer(self, shadow: ShadowBundle, request_id: str, make: Callable[[], Ranked]) -> None:
        """Take a ranking if it is in the sample."""


class NoShadows:
    """Takes nothing."""

    def offer(self, shadow: ShadowBundle, request_id: str, make: Callable[[], Ranked]) -> None:
        """Do nothing."""


def offering(shadows: TakesRankings, call: RankCall, scored: ScoredRow) -> Callable[[], None] | None:
    """Return what offers a ranking to the shadow of its arm once the caller has its answer; None without a shadow.

    Call this before the answer leaves: the call then lets go of its answer and its candidates.
    """
    shadow, candidates = call.decision.shadow, call.candidates
    if shadow is None or call.answer is None:
        return None
    return lambda: shadows.offer(shadow, call.request_id, lambda: _ranked_of(call, candidates, scored))


def _ranked_of(call: RankCall, whole: Candidates, value: ScoredRow) -> Ranked:
    """Return what a shadow needs of a call that was answered by its model; the scores are those before rules."""
    candidates = whole if value.finite is None else without_scores(whole, value.finite)
    manifest = call.serving.bundle.manifest
    return Ranked(
        f"{manifest.model}@{manifest.version}",
        value.encode_seconds + value.score_seconds,
        call.user_id,
        call.row.records,
        candidates.item_ids,
        candidates.known,
        value.scores,
        call.request_time_ms,
        dict(call.context),
    )
