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

import structlog

from service.errors import RankerError
from service.experiments.exposures import Exposures
from service.experiments.live import Experiments
from service.flow.batcher import Batcher
from service.inference.fleet import Deployments
from service.inference.scorer import ScoredRow
from service.metrics import Metrics
from service.ranking.answer import Ranking
from service.ranking.by_model import score
from service.ranking.call import AwaitedCall, RankCall
from service.ranking.candidates import candidates_of
from service.ranking.choice import Choice
from service.ranking.cutoff import cutoff_of
from service.ranking.filling import fill
from service.ranking.history import fill_the_sequences, what_is_known
from service.ranking.listed import Listed
from service.ranking.ordering import Ordering
from service.ranking.ranking_log import RankingLog
from service.ranking.recording import Recording
from service.ranking.rules.book import RuleBook
from service.ranking.rules.stage import RuleStage
from service.ranking.shadowed import NoShadows, TakesRankings, offering
from service.ranking.stored_features import StoredFeatures
from service.settings.root import Settings
from service.store.behaviours import RedisBehaviourStore, StoredBehaviours
from service.store.items import ItemStore

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
        self._ordering = Ordering(
            self._rules, self._recording, observer, falls_back=settings.inference.popularity_fallback
        )
        self._store_seconds = settings.redis.read_timeout_ms * _STORE_SLACK / 1000
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
        try:
            self._prepare(call)
        except Exception as error:  # `_begin` ends it
            _note_error(call, error)
        self._arrived.append(call)
        if len(self._arrived) == 1:
            asyncio.get_running_loop().call_soon(self._begin)

    def end(self, call: RankCall) -> None:
        """Record a call and hand its outcome over; a fault in either ends no other call."""
        if call.is_over:
            return
        call.is_over = True
        offer = None if call.shadowed is None else offering(self._shadows, call, call.shadowed)
        try:
            self._recording.ended(call)
        except Exception:
            _note_failure(call)
        try:
            call.finished()
        except Exception:
            _note_failure(call)
        if offer is not None:
            try:
                offer()
            except Exception:  # no answer depends on a shadow
                _note_failure(call)

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

    def _prepare(self, call: RankCall) -> None:
        now = asyncio.get_running_loop().time()
        call.cutoff = cutoff_of(now, call.deadline)
        call.serving = self._choice.of(call) if call.decision.pair is None else self._choice.of_both(call)
        call.candidates = candidates_of(call.item_ids, call.serving.bundle.items)
        if isinstance(call.candidates.item_ids, Listed) and not call.halves:
            # The request's own are let go while the processor's cache has them.
            call.item_ids = call.candidates.item_ids
        self._observer.candidates(call.candidates.total, len(call.candidates.unknown))
        call.until = min(now + self._store_seconds, call.cutoff)

    def _have_read(self, calls: Sequence[RankCall], found: Sequence[StoredBehaviours | Exception]) -> None:
        """Continue with the users' behaviours, or none if the store does not answer in time, as for a new user.

        The newest behaviours are enough for most users. If they do not fill the model's sequence and there are
        older ones, all are read: unusable behaviours must not hide usable ones.
        """
        now = time.perf_counter()
        wholes: list[RankCall] = []
        pairs = zip(calls, found, strict=True)
        score([call for call, stored in pairs if self._passes(call, self._take, stored, now, wholes)])
        if wholes:
            self._whole_reads.submit(wholes)
        self._read_features()

    def _take(self, call: RankCall, stored: StoredBehaviours | Exception, now: float, wholes: list[RankCall]) -> bool:
        call.timings["store"] = now - call.queued_at
        call.stored = what_is_known(stored)
        if call.stored.truncated and not fill_the_sequences(call):
            wholes.append(call)
            return False
        return self._goes_to_the_model(call)

    def _have_whole(self, calls: Sequence[RankCall], found: Sequence[StoredBehaviours | Exception]) -> None:
        now = time.perf_counter()
        pairs = zip(calls, found, strict=True)
        score([call for call, stored in pairs if self._passes(call, self._take_whole, stored, now)])
        self._read_features()

    def _take_whole(self, call: RankCall, stored: StoredBehaviours | Exception, now: float) -> bool:
        call.timings["store"] += now - call.queued_at
        whole = what_is_known(stored)
        call.stored = whole if whole.status == "ok" else call.stored._replace(status=whole.status)
        return self._goes_to_the_model(call)

    def _goes_to_the_model(self, call: RankCall) -> bool:
        fill(call, self._observer)
        if not call.halves and call.serving.bundle.new_items is not None:
            return self._describe(call)
        return True

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
        score([call for call, _ in zip(calls, found, strict=True) if self._passes(call, self._take_features, now)])

    def _take_features(self, call: RankCall, now: float) -> bool:
        call.timings["store"] += now - call.queued_at
        call.until = call.cutoff
        self._features.use(call, self._rules.book.features)
        return True

    def have_scored(self, call: RankCall, value: ScoredRow | Exception) -> None:
        """Order by the model's scores or by popularity, and end the call."""
        if self._passes(call, self._ordering.of_one, value):
            self.end(call)

    def have_both(self, call: RankCall) -> None:
        """Merge the lists of an interleaved call, and end it."""
        if self._passes(call, self._ordering.of_both):
            self.end(call)

    # --- inside

    def _passes(self, call: RankCall, work: Callable[..., bool], *given: object) -> bool:
        """Do a stage's work on a call; return whether it goes on. An error ends this call only."""
        if call.is_over:
            return False
        try:
            return work(call, *given)
        except Exception as error:  # the edge of a stage: the other calls continue
            _note_error(call, error)
            self.end(call)
            return False


def _note_error(call: RankCall, error: Exception) -> None:
    if not isinstance(error, RankerError):
        _note_failure(call)
    call.error = error.with_traceback(None)  # whose frames hold the call: a cycle for the collector


def _note_failure(call: RankCall) -> None:
    with suppress(Exception):  # a log that fails must not end the other calls
        _log.exception("ranking_failed", request_id=call.request_id)
