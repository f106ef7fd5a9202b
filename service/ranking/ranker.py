"""Ranking: every stage is a function over the requests that wait together.

Stages: choose the bundle and look up the candidates; read the stored behaviours in one pipelined read; encode and score
in one run per bundle; order. An interleaved ranking has two bundles (interleaved.py). After a fault the answer takes
the next step and names it in `degraded`: without stored behaviours, from the layer's default bundle, in order of
popularity; then a refusal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import numpy as np
import structlog

from contract.behaviours.records import Records
from service.errors import DeadlineExceeded, InferenceFailed, NotReady, RankerError
from service.experiments.exposures import Exposures
from service.experiments.live import Experiments
from service.flow.batcher import Batcher
from service.inference.fleet import Deployments
from service.inference.inputs import RankRow
from service.inference.scorer import NothingScored, ScoredRow
from service.metrics import Metrics
from service.ranking import interleaved
from service.ranking.answer import Ranking, explanation_of, ranking_of
from service.ranking.call import AwaitedCall, Half, RankCall
from service.ranking.candidates import candidates_of, without_scores
from service.ranking.choice import Choice
from service.ranking.cold import cold_of
from service.ranking.context import ignored
from service.ranking.described import marked, with_described
from service.ranking.history import fill_the_sequences, not_stored, what_is_known
from service.ranking.listed import Listed
from service.ranking.ranking_log import RankingLog
from service.ranking.recording import Recording
from service.ranking.rules.applied import finished
from service.ranking.rules.book import RuleBook
from service.ranking.rules.stage import RuleStage
from service.ranking.seen import seen_last, seen_places, without
from service.ranking.shadowed import NoShadows, TakesRankings, ranked_of
from service.ranking.stored_features import StoredFeatures
from service.ranking.targets import arm_weights
from service.settings.root import Settings
from service.store.behaviours import RedisBehaviourStore, StoredBehaviours
from service.store.items import ItemStore

_RESERVE: Final = 0.1  # of the budget, kept back for ordering and writing the answer, within the bounds below
_RESERVE_SECONDS: Final = (0.002, 0.01)  # at least two ticks of an event loop's timer
_STORE_SLACK: Final = 3.0  # how much longer than one read a ranking waits for its behaviours, queueing included
_WHOLE_ROWS: Final = 16  # histories of about 70 KB at most

_log = structlog.get_logger(__name__)


class Ranker:
    """Ranks; each request is answered once, and none waits beyond its deadline.

    Args:
        store: the store of behaviours.
        deployments: the served bundles.
        experiments: the defaults of a layer if its arm's bundle is missing.
        exposures: the log of attempts.
        observer: counts.
        settings: limits and deadlines.
        now_ms: milliseconds since the epoch.
        rankings: the log of answered lists, if there is one.
        items: stored features of items.
        rules: those of the experiment file.
        shadows: take answered rankings of arms that have a shadow.
    """

    def __init__(
        self,
        store: RedisBehaviourStore,
        deployments: Deployments,
        experiments: Experiments,
        exposures: Exposures,
        observer: Metrics,
        settings: Settings,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        rankings: RankingLog | None = None,
        items: ItemStore | None = None,
        rules: RuleBook | None = None,
        shadows: TakesRankings | None = None,
    ) -> None:
        self._shadows = shadows or NoShadows()
        self._rules = RuleStage(rules or RuleBook(), items, observer)
        self._choice, self._observer = Choice(deployments, experiments), observer
        self._recording = Recording(exposures, rankings, observer, now_ms)
        self._store_seconds = settings.redis.read_timeout_ms * _STORE_SLACK / 1000
        self._falls_back = settings.inference.popularity_fallback
        self._arrived: list[RankCall] = []

        async def read(calls: list[RankCall]) -> list[StoredBehaviours]:
            return await store.read([call.user_id for call in calls])

        async def read_whole(calls: list[RankCall]) -> list[StoredBehaviours]:
            return await store.read_whole([call.user_id for call in calls])

        def begin(calls: list[RankCall], done: Callable[[Sequence[StoredBehaviours | Exception]], None]) -> bool:
            return store.begin_read([call.user_id for call in calls], done)

        rows, reads = settings.batching.max_store_users, settings.batching.store_reads
        most = settings.limits.max_inflight
        self._reads: Batcher[RankCall, StoredBehaviours] = Batcher(
            read, self._have_read, max_queue=most, max_rows=rows, max_cost=rows, name="store", observer=observer,
            concurrency=reads, begin=begin, gather=self._begin,
        )  # fmt: skip
        self._whole_reads: Batcher[RankCall, StoredBehaviours] = Batcher(
            read_whole, self._have_whole, max_queue=most, max_rows=_WHOLE_ROWS, max_cost=_WHOLE_ROWS,
            name="store_whole", observer=observer, concurrency=reads,
        )  # fmt: skip
        self._without_features: list[RankCall] = []
        self._features = StoredFeatures(items, self._have_features, observer, most=most, concurrency=reads)

    @property
    def is_ready(self) -> bool:
        """Return whether every layer that names a model has its default served and working."""
        return self._choice.is_ready

    async def close(self) -> None:
        """Answer the waiting reads, and accept no more."""
        await asyncio.gather(self._reads.close(), self._whole_reads.close())
        await self._features.reads.close()

    async def rank(self, call: AwaitedCall) -> Ranking:
        """Rank, and write the exposure of the attempt for every outcome.

        Raises:
            Overloaded: a queue is full.
            DeadlineExceeded: no answer in time.
            NotReady: no bundle to answer from.
            InferenceFailed: the model failed only on this request.
        """
        return await call.outcome(self)

    def submit(self, call: RankCall) -> None:
        """Take a call; the calls of one pass of the event loop continue together.

        Its bundle and its candidates are looked up at once, while they are in the processor's cache.
        """
        call.ranker = self
        self._does(call, self._prepare)
        self._arrived.append(call)
        if len(self._arrived) == 1:
            asyncio.get_running_loop().call_soon(self._begin)

    def end(self, call: RankCall) -> None:
        """Record a call and hand its outcome over; a fault in either ends no other call."""
        if call.is_over:
            return
        call.is_over = True
        try:
            self._recording.ended(call)
        except Exception:
            _note_failure(call)
        try:
            call.finished()
        except Exception:
            _note_failure(call)
        if call.shadowed is not None:
            self._shadow(call, call.shadowed)

    # --- the stages

    def _begin(self) -> None:
        """Read the behaviours of all that have arrived; end those that went wrong."""
        calls, self._arrived = self._arrived, []
        if not calls:
            return
        for call in calls:
            if call.error is not None:
                self.end(call)
        self._reads.submit([call for call in calls if not call.is_over])

    def _prepare(self, call: RankCall) -> bool:
        now = asyncio.get_running_loop().time()
        call.cutoff = _cutoff(now, call.deadline)
        call.serving = self._choice.of(call) if call.decision.pair is None else self._choice.of_both(call)
        call.candidates = candidates_of(call.item_ids, call.serving.bundle.items)
        if isinstance(call.candidates.item_ids, Listed) and not call.halves:
            call.item_ids = (
                call.candidates.item_ids
            )  # the request's own are let go while the processor's cache has them
        self._observer.candidates(call.candidates.total, len(call.candidates.unknown))
        call.until = min(now + self._store_seconds, call.cutoff)
        return True

    def _have_read(self, calls: Sequence[RankCall], found: Sequence[StoredBehaviours | Exception]) -> None:
        """Continue with the users' behaviours, or none if the store does not answer in time, as for a new user.

        The newest behaviours are enough for most users. If they do not fill the model's sequence and there are
        older ones, all are read: unusable behaviours must not hide usable ones.
        """
        now = time.perf_counter()
        wholes: list[RankCall] = []
        pairs = zip(calls, found, strict=True)
        self._score([call for call, stored in pairs if self._passes(call, self._take, stored, now, wholes)])
        if wholes:
            self._whole_reads.submit(wholes)
        self._read_features()

    def _take(self, call: RankCall, stored: StoredBehaviours | Exception, now: float, wholes: list[RankCall]) -> bool:
        call.timings["store"] = now - call.queued_at
        call.stored = what_is_known(stored)
        if call.stored.truncated and not fill_the_sequences(call):
            wholes.append(call)
            return False
        return self._fill(call)

    def _have_whole(self, calls: Sequence[RankCall], found: Sequence[StoredBehaviours | Exception]) -> None:
        now = time.perf_counter()
        pairs = zip(calls, found, strict=True)
        self._score([call for call, stored in pairs if self._passes(call, self._take_whole, stored, now)])
        self._read_features()

    def _take_whole(self, call: RankCall, stored: StoredBehaviours | Exception, now: float) -> bool:
        call.timings["store"] += now - call.queued_at
        whole = what_is_known(stored)
        call.stored = whole if whole.status == "ok" else call.stored._replace(status=whole.status)
        return self._fill(call)

    def _score(self, calls: Sequence[RankCall]) -> None:
        """Hand every bundle its calls in one piece."""
        by_serving: dict[int, list[RankCall | Half]] = {}
        for call in calls:
            if call.halves:
                for half in call.halves:
                    by_serving.setdefault(id(half.serving), []).append(half)
            else:
                by_serving.setdefault(id(call.serving), []).append(call)
        for group in by_serving.values():
            serving = group[0].serving
            if serving.is_healthy:
                serving.submit(group)
            else:
                for entry in group:
                    entry.scored(NotReady("The model is not being served."))

    def _fill(self, call: RankCall) -> bool:
        """Build the model's inputs."""
        stored = call.stored
        if stored.status == "unavailable":
            call.degraded.append("store_unavailable")
        elif stored.status == "wrong_type" or stored.corrupt:
            call.degraded.append("behaviours_corrupt")
        fresh = not_stored(call.recent, stored.records)
        call.fresh = len(fresh)
        records, notes = stored.records, stored.notes
        if len(fresh):
            records, notes = np.concatenate([records, fresh]), None
        if call.seen != "keep":
            self._part_the_seen(call, records)
        call.row = RankRow(
            call.user_id,
            records,
            call.candidates.indices,
            call.request_time_ms,
            call.explain,
            notes,
            context=call.context,
            unknown=len(call.candidates.unknown),
        )
        if call.serving.bundle.manifest.targets:
            call.row = call.row._replace(weights=arm_weights(call.serving.bundle, call.decision.parameters))
        call.cost, call.until = max(1, len(call.candidates.indices)), call.cutoff
        if call.halves:
            interleaved.fill(call)
        elif call.serving.bundle.new_items is not None:
            return self._describe(call)
        return True

    def _part_the_seen(self, call: RankCall, records: Records) -> None:
        """Leave candidates that the user has met out, or note them for the end of the list."""
        vocabulary = call.serving.bundle.items
        places = seen_places(call.candidates, vocabulary, records)
        self._observer.seen_candidates(call.seen, len(places))
        if not places:
            return
        if call.seen == "drop":
            call.candidates = without(call.candidates, places, vocabulary)
        else:
            call.seen_ids = frozenset([call.candidates.item_ids[place] for place in places])

    def _describe(self, call: RankCall) -> bool:
        """Add new items that have features, or let the call wait for those that are in the store only."""
        if not self._features.must_wait(call):
            self._features.use(call, self._rules.book.features)
            return True
        call.until = min(asyncio.get_running_loop().time() + self._store_seconds, call.cutoff)
        self._without_features.append(call)
        return False

    def _read_features(self) -> None:
        calls, self._without_features = self._without_features, []
        if calls:
            self._features.reads.submit(calls)

    def _have_features(self, calls: Sequence[RankCall], found: Sequence[Exception | None]) -> None:
        """Continue with what has been read; a read that is too late leaves items without a score."""
        now = time.perf_counter()
        self._score(
            [call for call, _ in zip(calls, found, strict=True) if self._passes(call, self._take_features, now)]
        )

    def _take_features(self, call: RankCall, now: float) -> bool:
        call.timings["store"] += now - call.queued_at
        call.until = call.cutoff
        self._features.use(call, self._rules.book.features)
        return True

    def have_scored(self, call: RankCall, value: ScoredRow | Exception) -> None:
        """Order by the model's scores or by popularity, and end the call."""
        if self._passes(call, self._order, value):
            self.end(call)

    def _order(self, call: RankCall, value: ScoredRow | Exception) -> bool:
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
        explanation = explanation_of(call.stored, call.fresh, unknown, scored) if call.explain else None
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

    def have_both(self, call: RankCall) -> None:
        """Merge the lists of an interleaved call, and end it."""
        if self._passes(call, self._order_both):
            self.end(call)

    def _order_both(self, call: RankCall) -> bool:
        values = [half.value for half in call.halves if not isinstance(half.value, Exception)]
        if len(values) < len(call.halves):
            return self._order(call, interleaved.go_on_alone(call))
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

    # --- inside

    def _shadow(self, call: RankCall, scored: ScoredRow) -> None:
        """Offer an answered ranking to the shadow of its arm."""
        shadow = call.decision.shadow
        try:
            if shadow is not None and call.answer is not None:
                self._shadows.offer(shadow, call.request_id, lambda: ranked_of(call, scored))
        except Exception:  # no answer depends on a shadow
            _note_failure(call)

    def _passes(self, call: RankCall, work: Callable[..., bool], *given: object) -> bool:
        """Do a stage's work on a call; return whether it goes on. An error ends this call only."""
        if call.is_over:
            return False
        goes_on = self._does(call, work, *given)
        if call.error is not None:
            self.end(call)
        return goes_on

    def _does(self, call: RankCall, work: Callable[..., bool], *given: object) -> bool:
        try:
            return work(call, *given)
        except RankerError as error:
            call.error = error.with_traceback(None)  # whose frames hold the call: a cycle for the collector
        except Exception as error:  # the edge of a stage: the other calls continue
            _note_failure(call)
            call.error = error.with_traceback(None)
        return False

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


def _note_failure(call: RankCall) -> None:
    with suppress(Exception):  # a log that fails must not end the other calls
        _log.exception("ranking_failed", request_id=call.request_id)


def _cutoff(now: float, deadline: float) -> float:
    if deadline <= now:
        raise DeadlineExceeded("The deadline passed before the work began.")
    least, most = _RESERVE_SECONDS
    return deadline - min(max(_RESERVE * (deadline - now), least), most)
