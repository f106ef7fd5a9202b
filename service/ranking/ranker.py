"""The use case: from a user and candidates to an ordered list, in time, or the best that can still be said.

It knows interfaces only. A fault takes one step down the ladder and is named in `degraded`: without stored behaviours,
from the layer's default bundle, in order of popularity; then a refusal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.assignment import Decision
from contract.behaviours import RECORD, Records, identities
from service.bundles.bundle import Bundle
from service.errors import CALLER_GONE, DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from service.experiments.exposures import Outcome
from service.flow.batcher import Answer, Batcher, BatchObserver
from service.inference.scorer import NothingScored, RankRow, ScoredRow
from service.names import Degraded
from service.ranking.answer import Explanation, Ranking, explanation_of, ranking_of
from service.ranking.ordering import Candidates, candidates_of, without_scores
from service.store.behaviours import StoredBehaviours
from service.store.retention import usable_count

__all__ = ["Explanation", "RankLimits", "RankQuery", "Ranker", "Ranking"]

_RESERVE: Final = 0.1  # of the budget, kept back for ordering and writing the answer, within the bounds below
_RESERVE_SECONDS: Final = (0.002, 0.01)  # at least two ticks of an event loop's timer
_WHOLE_ROWS: Final = 16  # histories of some 70 KB at most
_NOTHING: Final[Records] = np.zeros(0, dtype=RECORD)
_MIX: Final = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class RankQuery:
    """A valid request to rank."""

    request_id: str
    user_id: str
    candidates: Sequence[str]
    limit: int | None
    recent: Records
    request_time_ms: int
    explain: bool
    deadline: float  # event loop time


class ReadBehaviours(Protocol):
    """What the ranker needs of the store."""

    async def read(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        """Return each user's newest behaviours; never raises."""

    async def read_whole(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        """Return all that is kept of each user; never raises."""


class Serving(Protocol):
    """What the ranker needs of a deployment."""

    @property
    def bundle(self) -> Bundle:
        """Return what is served."""

    @property
    def is_healthy(self) -> bool:
        """Return whether the engine answers."""

    @property
    def is_slow(self) -> bool:
        """Return whether it keeps taking longer than a request may."""

    async def score(self, row: RankRow, deadline: float) -> Answer[ScoredRow]:
        """Score one request."""


class FindsServing(Protocol):
    """What the ranker needs of all deployments."""

    def find(self, model: str, version: str) -> Serving | None:
        """Return the deployment of a bundle, or None where it is not served."""


class Defaults(Protocol):
    """What the ranker needs of the experiments."""

    def undecided(self) -> Decision:
        """Return a decision with every layer's default parameters."""


class RecordsExposures(Protocol):
    """What the ranker needs of the exposure log."""

    def record(self, decision: Decision, outcome: Outcome) -> int:
        """Write what came of a ranking attempt; never waits and never fails."""


class RankObserver(BatchObserver, Protocol):
    """Where rankings are counted (service/metrics/)."""

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Observe the stages of one ranking."""

    def candidates(self, count: int, unknown: int) -> None:
        """Observe how many candidates a request has, and how many the model has never seen."""

    def sequence(self, used: int, unknown: int) -> None:
        """Observe how many behaviours a model read, and how many it passed over."""

    def history_unused(self, reason: str) -> None:
        """Count a ranking of a user with a history of which the model could use nothing: `items` or `actions`."""

    def state_cache(self, hit: bool) -> None:
        """Count a look-up of a user's state."""

    def degraded(self, reason: str) -> None:
        """Count an answer that went without something."""


@dataclass(frozen=True, slots=True)
class RankLimits:
    """How much is done at once and how long it may take."""

    max_inflight: int = 64
    max_store_users: int = 128
    store_reads: int = 4
    store_seconds: float = 0.03  # the longest wait for stored behaviours, queueing included
    popularity_fallback: bool = True


@dataclass(slots=True)
class _Attempt:
    """One ranking under way."""

    query: RankQuery
    began: float
    cutoff: float = 0.0  # event loop time after which the answer is made from what there is
    degraded: list[Degraded] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    served: Bundle | None = None
    is_gone: bool = False  # the caller has hung up

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = time.perf_counter() - started


class Ranker:
    """Ranks; each accepted request is answered once, and none waits beyond its deadline.

    Args:
        store: where behaviours are read.
        deployments: what is served.
        experiments: what a layer serves where its arm's bundle is not there.
        exposures: where attempts are written.
        observer: counts.
        limits: how much at once.
        now_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        store: ReadBehaviours,
        deployments: FindsServing,
        experiments: Defaults,
        exposures: RecordsExposures,
        observer: RankObserver,
        limits: RankLimits,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._deployments, self._experiments, self._exposures = deployments, experiments, exposures
        self._observer, self._limits, self._now_ms = observer, limits, now_ms
        self._inflight = 0
        self._reads = _reads(store.read, "store", limits.max_store_users, limits, observer)
        self._whole_reads = _reads(store.read_whole, "store_whole", _WHOLE_ROWS, limits, observer)

    @property
    def is_ready(self) -> bool:
        """Return whether every layer that names a model has its default served and working."""
        served = [layer.parameters for layer in self._experiments.undecided().layers if "model" in layer.parameters]
        deployments = [self._deployments.find(*_model_of(parameters)) for parameters in served]
        return bool(deployments) and all(one is not None and one.is_healthy for one in deployments)

    def start(self) -> None:
        """Start reading; needs a running event loop."""
        self._reads.start()
        self._whole_reads.start()

    async def close(self) -> None:
        """Answer the reads that wait, and take no more."""
        await asyncio.gather(self._reads.close(), self._whole_reads.close())

    async def rank(self, query: RankQuery, decision: Decision) -> Ranking:
        """Rank, and write the exposure of the attempt, whatever comes of it.

        Raises:
            Overloaded: too many rankings in progress, or a queue is full.
            DeadlineExceeded: no answer in time.
            NotReady: no bundle to answer from.
            InferenceFailed: the model failed on this request, and on this one alone.
        """
        attempt = _Attempt(query, time.perf_counter())
        ranking: Ranking | None = None
        try:
            if self._inflight >= self._limits.max_inflight:
                raise Overloaded
            self._inflight += 1
            try:
                ranking = await self._rank(attempt, decision)
            finally:
                self._inflight -= 1
            return ranking
        except asyncio.CancelledError as cancelled:
            attempt.is_gone = cancelled.args == (CALLER_GONE,)
            raise
        finally:
            self._exposures.record(decision, self._outcome(attempt, ranking))

    async def _rank(self, attempt: _Attempt, decision: Decision) -> Ranking:
        query = attempt.query
        attempt.cutoff = _cutoff(asyncio.get_running_loop().time(), query.deadline)
        serving = self._choose(attempt, decision)
        candidates = candidates_of(query.candidates, serving.bundle.items)
        self._observer.candidates(candidates.count, len(candidates.unknown))
        stored = await self._read(attempt, serving.bundle)
        fresh = _not_stored(query.recent, stored.records)
        records = np.concatenate([stored.records, fresh]) if len(fresh) else stored.records
        scored = await self._score(attempt, serving, candidates, records)
        self._note_unused(attempt, scored)
        unknown = len(candidates.unknown)
        if scored is not None and scored.finite is not None:
            attempt.degraded.append("unscored_items")
            candidates = without_scores(candidates, scored.finite)
        if query.deadline <= asyncio.get_running_loop().time():
            raise DeadlineExceeded
        explanation = explanation_of(stored, len(fresh), unknown, scored) if query.explain else None
        with attempt.stage("order"):
            ranking = ranking_of(
                serving.bundle,
                candidates,
                scored,
                limit=query.limit,
                degraded=attempt.degraded,
                timings=attempt.timings,
                explanation=explanation,
            )
        self._count(attempt, scored)
        return ranking

    def _choose(self, attempt: _Attempt, decision: Decision) -> Serving:
        """Return the arm's deployment, or the default's of its layer, or whichever still has a popularity prior."""
        wanted = self._find(decision)
        if wanted is not None and wanted.is_healthy and not wanted.is_slow:
            return wanted
        is_slow = wanted is not None and wanted.is_healthy
        default = self._find(self._experiments.undecided())
        if default is not None and default is not wanted and default.is_healthy and not (is_slow and default.is_slow):
            attempt.degraded.append("bundle_slow" if is_slow else "bundle_unavailable")
            return default
        chosen = wanted or default
        if chosen is None:
            raise NotReady("No model is being served.")
        return chosen

    def _find(self, decision: Decision) -> Serving | None:
        parameters = next((layer.parameters for layer in decision.layers if "model" in layer.parameters), None)
        return self._deployments.find(*_model_of(parameters)) if parameters is not None else None

    async def _read(self, attempt: _Attempt, bundle: Bundle) -> StoredBehaviours:
        """Return what the user did, or nothing if the store does not say it in time; the same path as a new user's.

        The newest behaviours are enough for most users. Where they do not fill the model's sequence and there are
        older ones, all that is kept is read: what no model can use must not hide what it can.
        """
        now = asyncio.get_running_loop().time()
        deadline = min(now + self._limits.store_seconds, attempt.cutoff)
        with attempt.stage("store"):
            stored = await _read_by(self._reads, attempt.query.user_id, deadline)
            if stored.truncated and usable_count(bundle, stored.records) < bundle.manifest.sequence.length:
                whole = await _read_by(self._whole_reads, attempt.query.user_id, deadline)
                stored = whole if whole.status == "ok" else replace(stored, status=whole.status)
        if stored.status == "unavailable":
            attempt.degraded.append("store_unavailable")
        elif stored.status == "wrong_type" or stored.corrupt:
            attempt.degraded.append("behaviours_corrupt")
        return stored

    def _note_unused(self, attempt: _Attempt, scored: ScoredRow | None) -> None:
        """Say where a user has a history and the model could use none of it."""
        if scored is None or scored.used or not (scored.unknown or scored.unread):
            return
        if scored.unknown:
            attempt.degraded.append("history_unknown")
        self._observer.history_unused("items" if scored.unknown else "actions")

    async def _score(
        self, attempt: _Attempt, serving: Serving, candidates: Candidates, records: Records
    ) -> ScoredRow | None:
        """Return what the model says, or None where popularity must do."""
        query = attempt.query
        row = RankRow(query.user_id, records, candidates.indices, query.request_time_ms, query.explain)
        try:
            if not serving.is_healthy:
                raise NotReady("The model is not being served.")
            answer = await serving.score(row, attempt.cutoff)
        except (DeadlineExceeded, NotReady, InferenceFailed) as error:
            # An engine that works has judged this request alone: its error is the answer.
            judged = isinstance(error, InferenceFailed) and not isinstance(error, NothingScored) and serving.is_healthy
            if not self._limits.popularity_fallback or judged:
                raise
            attempt.degraded.append("popularity")
            return None
        scored = answer.value
        attempt.served = serving.bundle
        attempt.timings |= {
            "queue": answer.queue_seconds, "encode": scored.encode_seconds, "score": scored.score_seconds,
        }  # fmt: skip
        return scored

    def _count(self, attempt: _Attempt, scored: ScoredRow | None) -> None:
        attempt.timings["total"] = time.perf_counter() - attempt.began
        self._observer.stages(attempt.timings)
        for reason in attempt.degraded:
            self._observer.degraded(reason)
        if scored is not None:
            self._observer.sequence(scored.used, scored.unknown)
            self._observer.state_cache(scored.state_hit)

    def _outcome(self, attempt: _Attempt, ranking: Ranking | None) -> Outcome:
        served = attempt.served.manifest if ranking is not None and attempt.served is not None else None
        return Outcome(
            request_id=attempt.query.request_id,
            time_ms=self._now_ms(),
            status=_status(attempt, ranking),
            served_model=served.model if served else None,
            served_version=served.version if served else None,
            answered=len(ranking.item_ids) if ranking is not None else 0,
            candidates=len(attempt.query.candidates),
        )


def _status(attempt: _Attempt, ranking: Ranking | None) -> Literal["ok", "degraded", "error", "gone"]:
    if ranking is None:
        return "gone" if attempt.is_gone else "error"
    return "degraded" if ranking.degraded else "ok"


def _reads(
    read: Callable[[list[str]], Awaitable[list[StoredBehaviours]]],
    name: str,
    rows: int,
    limits: RankLimits,
    observer: BatchObserver,
) -> Batcher[str, StoredBehaviours]:
    return Batcher(
        read,
        max_queue=limits.max_inflight,
        max_rows=rows,
        max_cost=rows,
        name=name,
        observer=observer,
        concurrency=limits.store_reads,
    )


async def _read_by(reads: Batcher[str, StoredBehaviours], user_id: str, deadline: float) -> StoredBehaviours:
    try:
        return (await reads.submit(user_id, deadline=deadline)).value
    except DeadlineExceeded:
        return StoredBehaviours(_NOTHING, status="unavailable")


def _cutoff(now: float, deadline: float) -> float:
    if deadline <= now:
        raise DeadlineExceeded("The deadline passed before the work began.")
    least, most = _RESERVE_SECONDS
    return deadline - min(max(_RESERVE * (deadline - now), least), most)


def _model_of(parameters: Mapping[str, object]) -> tuple[str, str]:
    return str(parameters["model"]), str(parameters.get("version", ""))


def _not_stored(recent: Records, stored: Records) -> Records:
    """Return each recent behaviour once, without those already stored: callers write and send the same ones."""
    if not len(recent):
        return recent
    words = _mixed(recent)
    firsts = np.unique(words, return_index=True)[1]
    if len(firsts) < len(recent):
        firsts.sort()
        recent, words = recent[firsts], words[firsts]
    return recent[~np.isin(words, _mixed(stored))] if len(stored) else recent


def _mixed(records: Records) -> NDArray[np.uint64]:
    """Return each record's identity mixed into one word; sums wrap around."""
    return np.asarray((identities(records) * _MIX).sum(axis=1), dtype=np.uint64)
