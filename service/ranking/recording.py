"""Rankings in metrics, exposures and the ranking log."""

from __future__ import annotations

from collections.abc import Callable

from contract.events.ranking_log import RankingOutcome
from service.bundles.bundle import Bundle
from service.errors import DeadlineExceeded, NotReady, Overloaded
from service.experiments.exposures import Exposures, Outcome
from service.inference.scorer import ScoredRow
from service.metrics import Metrics
from service.ranking.call import RankCall
from service.ranking.context import results
from service.ranking.ranking_log import RankingLog


class Recording:
    """Records rankings.

    Args:
        exposures: the log of attempts.
        rankings: the log of answered lists, if there is one.
        observer: counts.
        now_ms: milliseconds since the epoch.
    """

    def __init__(
        self, exposures: Exposures, rankings: RankingLog | None, observer: Metrics, now_ms: Callable[[], int]
    ) -> None:
        self._exposures, self._rankings = exposures, rankings
        self._observer, self._now_ms = observer, now_ms

    def ended(self, call: RankCall) -> None:
        """Record a call that has ended, for every outcome."""
        status = _status(call)
        self._observer.ranked(call.decision, status)
        if not call.is_shown:
            return
        if call.decision.exposed:
            self._exposures.record(call.decision, self._outcome(call, status))
        if self._rankings is not None:
            self._rankings.record(call, status, self._now_ms())

    def note_unused(self, call: RankCall, scored: ScoredRow | None) -> None:
        """Count users with a history of which the model can use nothing."""
        if scored is None or scored.used or not (scored.unknown or scored.unread):
            return
        if scored.unknown and "history_unknown" not in call.degraded:
            call.degraded.append("history_unknown")
        self._observer.history_unused("items" if scored.unknown else "actions")

    def count(self, call: RankCall, *results: ScoredRow | None) -> None:
        """Count a ranking that has an answer."""
        self._observer.stages(call.timings)
        for reason in call.degraded:
            self._observer.degraded(reason)
        for scored in results:
            if scored is not None:
                self._observer.sequence(scored.used, scored.unknown, scored.new)
                self._observer.state_cache(scored.state_hit)

    def note_context(self, call: RankCall, bundle: Bundle, scored: ScoredRow | None) -> None:
        """Count the attributes of the request that the model reads, by what the request had for them."""
        if scored is not None and scored.context is not None:
            for name, result in results(call.context, bundle, scored):
                self._observer.context_value(name, result)

    def _outcome(self, call: RankCall, status: RankingOutcome) -> Outcome:
        served = call.answer if call.served is not None else None
        return Outcome(
            request_id=call.request_id,
            time_ms=self._now_ms(),
            status=status,
            served_model=served.model if served else None,
            served_version=served.version if served else None,
            answered=len(call.answer.item_ids) if call.answer is not None else 0,
            candidates=len(call.item_ids),
        )


def _status(call: RankCall) -> RankingOutcome:
    if call.answer is None:
        if call.is_gone:
            return "gone"
        return "refused" if isinstance(call.error, Overloaded | DeadlineExceeded | NotReady) else "error"
    return "degraded" if call.answer.degraded else "ok"
