"""From the engine's result to the answer of a call: by the model's scores, by two models', or by popularity."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from service.errors import DeadlineExceeded, InferenceFailed, NotReady
from service.inference.scorer import NothingScored, ScoredRow
from service.metrics import Metrics
from service.ranking import interleaved
from service.ranking.answer import Explanation, explanation_of, ranking_of
from service.ranking.call import RankCall
from service.ranking.candidates import without_scores
from service.ranking.cold import cold_of
from service.ranking.context import ignored, read_of
from service.ranking.described import marked, with_described
from service.ranking.recording import Recording
from service.ranking.rules.applied import finished
from service.ranking.rules.stage import RuleStage
from service.ranking.seen import seen_last


class Ordering:
    """Orders the candidates of scored calls.

    Args:
        rules: move items of a list.
        recording: records what the model read and what the stages took.
        observer: counts.
        falls_back: whether popularity orders where the model cannot.
    """

    def __init__(self, rules: RuleStage, recording: Recording, observer: Metrics, *, falls_back: bool) -> None:
        self._rules, self._recording, self._observer = rules, recording, observer
        self._falls_back = falls_back

    def of_one(self, call: RankCall, value: ScoredRow | Exception) -> bool:
        """Give a call its answer by its model's scores, or by popularity.

        Raises:
            RankerError: there is no answer.
        """
        scored = self._scored(call, value)
        self._recording.note_unused(call, scored)
        self._recording.note_context(call, call.serving.bundle, scored)
        candidates, unknown = call.candidates, len(call.candidates.unknown)
        if scored is not None and scored.finite is not None:
            call.degraded.append("unscored_items")
            candidates = without_scores(candidates, scored.finite)
        new = call.described if scored is not None and scored.new_scores is not None else None
        if new is not None and scored is not None:
            candidates, scored = with_described(call.serving.bundle, candidates, new, scored)
        if call.deadline <= asyncio.get_running_loop().time():
            raise DeadlineExceeded
        explanation = self._explanation(call, unknown, scored) if call.explain else None
        started, limit = time.perf_counter(), None if call.seen_ids else call.limit
        rules = self._rules.of(call, candidates, scored) if call.decision.rules else None
        call.answer = ranking_of(
            call.serving.bundle, candidates, scored, limit=None if rules else limit, degraded=call.degraded,
            timings=call.timings, explanation=explanation, instead=rules.after if rules else None,
            cold=cold_of(call.decision.parameters) if candidates.unknown else "last",
        )  # fmt: skip
        if new is not None:
            call.answer = marked(call.answer, candidates, new)
            self._observer.new_items(len(new.items), new.refused)
        if rules:
            call.answer = finished(call.answer, rules, limit, explain=call.explain and scored is not None)
        if call.seen_ids:
            call.answer = seen_last(call.answer, call.seen_ids, call.limit)
        if call.context:
            call.answer = call.answer._replace(ignored_context=ignored(call.context, call.serving.bundle))
        done = time.perf_counter()
        call.timings["order"] = done - started
        call.timings["total"] = done - call.began
        self._recording.count(call, scored)
        return True

    def of_both(self, call: RankCall) -> bool:
        """Give an interleaved call the merged list of both models.

        Raises:
            RankerError: there is no answer.
        """
        values = [half.value for half in call.halves if not isinstance(half.value, Exception)]
        if len(values) < len(call.halves):
            return self.of_one(call, interleaved.go_on_alone(call))
        call.served = call.serving.bundle
        for half, value in zip(call.halves, values, strict=True):
            self._recording.note_unused(call, value)
            self._recording.note_context(call, half.serving.bundle, value)
        call.runs = [value.run for value in values if value.run is not None]
        interleaved.note(call, values)
        if call.deadline <= asyncio.get_running_loop().time():
            raise DeadlineExceeded
        started = time.perf_counter()
        call.answer = interleaved.merged(call, values, self._rules if self._rules.book.has_rules else None)
        if call.seen_ids:
            call.answer = seen_last(call.answer, call.seen_ids, call.limit)
        if call.context:
            bundles = [half.serving.bundle for half in call.halves]
            call.answer = call.answer._replace(ignored_context=ignored(call.context, *bundles))
        done = time.perf_counter()
        call.timings["order"] = done - started
        call.timings["total"] = done - call.began
        call.halves = ()  # which refer to the call: a cycle for the collector
        self._recording.count(call, *values)
        return True

    def _explanation(self, call: RankCall, unknown: int, scored: ScoredRow | None) -> Explanation:
        found = explanation_of(call.stored, call.fresh, unknown, scored)
        if scored is None:
            return found
        context = read_of(call.context, call.request_time_ms, call.serving.bundle, scored)
        return replace(found, context=context)

    def _scored(self, call: RankCall, value: ScoredRow | Exception) -> ScoredRow | None:
        """Return the model's result, or None if popularity must be used."""
        if isinstance(value, Exception):
            # A working engine has failed on only this request: its error is the answer.
            judged = isinstance(value, InferenceFailed) and not isinstance(value, NothingScored)
            judged = judged and call.serving.is_healthy
            is_known = isinstance(value, DeadlineExceeded | NotReady | InferenceFailed)
            if not is_known or not self._falls_back or judged:
                raise value
            call.degraded.append("popularity")
            return None
        call.served = call.serving.bundle
        if value.run is not None:
            call.runs = (value.run,)
        if call.decision.shadow is not None:
            call.shadowed = value
        timings = call.timings
        timings["queue"], timings["encode"], timings["score"] = call.waited, value.encode_seconds, value.score_seconds
        return value
