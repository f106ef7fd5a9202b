"""One ranking request from its values to its answer: the object that passes through every stage."""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, NamedTuple, Protocol

import numpy as np

from contract.behaviours.records import RECORD, Records
from contract.experiments.decision import Decision
from service.bundles.bundle import Bundle
from service.errors import CALLER_GONE, NotReady
from service.inference.deployment import Deployment
from service.inference.inputs import RankRow
from service.inference.scorer import ScoredRow
from service.names import Degraded, Seen
from service.ranking.answer import Ranking
from service.ranking.candidates import Candidates
from service.ranking.described import Described, Features
from service.store.behaviours import StoredBehaviours
from service.tracing.run import ModelRun

NO_RECORDS: Final[Records] = np.zeros(0, dtype=RECORD)
_NO_ATTRIBUTES: Final[Mapping[str, object]] = {}
NOTHING_STORED: Final = StoredBehaviours(NO_RECORDS)


class Ranks(Protocol):
    """The ranker's methods that a call uses."""

    def submit(self, call: RankCall) -> None:
        """Take a call."""

    def have_scored(self, call: RankCall, value: ScoredRow | Exception) -> None:
        """Continue a call with the engine's result."""

    def have_both(self, call: RankCall) -> None:
        """Continue a call whose halves both have the engine's result."""

    def end(self, call: RankCall) -> None:
        """End a call with the results so far."""


class Wanted(NamedTuple):
    """Keys of the items that the model does not know.

    Attributes:
        candidates: by item id.
        behaviours: of the user's newest behaviours that the model reads, at most as many as its sequence has.
    """

    candidates: Mapping[str, int]
    behaviours: Sequence[int]

    @property
    def keys(self) -> list[int]:
        """Return all of them."""
        return [*self.candidates.values(), *self.behaviours]


class Half:
    """One model's part of an interleaved ranking: an entry in the queue of its bundle.

    Args:
        call: the ranking.
        serving: the model's deployment.
    """

    __slots__ = ("call", "candidates", "cost", "queued_at", "row", "serving", "until", "value", "waited")

    def __init__(self, call: RankCall, serving: Deployment) -> None:
        self.call, self.serving = call, serving
        self.cost, self.until, self.queued_at, self.waited = 1, math.inf, 0.0, 0.0
        self.value: ScoredRow | Exception = NotReady("The model has not answered.")
        self.candidates: Candidates  # in the model's terms
        self.row: RankRow

    @property
    def is_over(self) -> bool:
        """Return whether no one waits for the ranking any more."""
        return self.call.is_over

    def scored(self, value: ScoredRow | Exception) -> None:
        """Accept the engine's result; the second one continues the ranking."""
        self.value = value
        self.call.halves_left -= 1
        if not self.call.halves_left:
            self.call.ranker.have_both(self.call)


class RankCall(ABC):
    """A ranking in progress. The caller's subclass determines where the outcome goes (`finished`).

    Args:
        request_id: of the request.
        user_id: of the user.
        candidates: item ids, in the order of the request.
        decision: the user's arm in every layer.
        deadline: event loop time after which no one needs the answer.
        limit: return only the best `limit` items; None for all.
        recent: behaviours that came with the request.
        request_time_ms: for models that read the time.
        explain: whether an explanation is wanted.
        attributes: of the request, for the ranking log.
        seen: what happens to candidates of the user's history (seen.py).
        features: of candidates by item id, for those that a model does not know.
        context: what the request tells a model that reads its context, by name.
    """

    is_shown: ClassVar[bool] = True  # to its user: the experiments count on it

    __slots__ = (
        "answer", "attributes", "began", "candidates", "context", "cost", "cutoff", "deadline", "decision", "degraded",
        "described", "error", "explain", "features", "fresh", "halves", "halves_left", "is_gone", "is_over",
        "item_ids", "limit", "queued_at", "ranker", "recent", "request_id", "request_time_ms", "row", "runs", "seen",
        "seen_ids", "served", "serving", "shadowed", "stored", "timings", "until", "user_id", "waited", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        request_id: str,
        user_id: str,
        candidates: Sequence[str],
        decision: Decision,
        *,
        deadline: float = math.inf,
        limit: int | None = None,
        recent: Records = NO_RECORDS,
        request_time_ms: int = 0,
        explain: bool = False,
        attributes: Mapping[str, object] = _NO_ATTRIBUTES,
        features: Features | None = None,
        seen: Seen = "keep",
        context: Mapping[str, object] = _NO_ATTRIBUTES,
    ) -> None:
        self.request_id, self.user_id, self.item_ids, self.decision = request_id, user_id, candidates, decision
        self.deadline, self.limit, self.recent = deadline, limit, recent
        self.request_time_ms, self.explain, self.attributes = request_time_ms, explain, attributes
        self.features, self.seen, self.context = features, seen, context
        self.seen_ids: frozenset[str] = frozenset()  # candidates that are moved to the end
        self.described: Described | None = None  # candidates with features, of those that the model does not know
        self.began = time.perf_counter()
        self.degraded: list[Degraded] = []
        self.timings: dict[str, float] = {}
        self.cutoff = self.until = math.inf  # event loop times: to answer from what there is; of the stage it is in
        self.cost, self.queued_at, self.waited = 1, 0.0, 0.0
        self.stored, self.fresh = NOTHING_STORED, 0
        self.served: Bundle | None = None  # whose scores are in the answer
        self.runs: Sequence[ModelRun] = ()  # of the models, that scored it
        self.shadowed: ScoredRow | None = None  # whose scores a shadow may be compared with
        self.answer: Ranking | None = None
        self.error: Exception | None = None
        self.is_over = self.is_gone = False
        self.halves: tuple[Half, ...] = ()  # two where two models' lists are interleaved
        self.halves_left = 2  # without a result
        self.ranker: Ranks
        self.serving: Deployment
        self.candidates: Candidates
        self.row: RankRow
        self.wanted: Wanted  # the items that the model does not know, if it can describe some

    def scored(self, value: ScoredRow | Exception) -> None:
        """Accept the engine's result for this request."""
        self.ranker.have_scored(self, value)

    def abandon(self) -> None:
        """Stop: the caller has gone."""
        if not self.is_over:
            self.is_gone = True
            self.ranker.end(self)

    @abstractmethod
    def finished(self) -> None:
        """Take the outcome: `answer`, or else `error`; neither where the caller has gone. Called once."""


class AwaitedCall(RankCall):
    """A ranking whose asker waits for it in a coroutine."""

    __slots__ = ("future",)

    async def outcome(self, ranker: Ranks) -> Ranking:
        """Wait for the answer.

        Raises:
            RankerError: there is none.
        """
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ranker.submit(self)
        try:
            await self.future
        except asyncio.CancelledError as cancelled:
            self.is_gone = cancelled.args == (CALLER_GONE,)
            ranker.end(self)
            raise
        if self.answer is None:
            raise self.error or RuntimeError("a ranking without an outcome")
        return self.answer

    def finished(self) -> None:
        """Wake the asker."""
        if not self.future.done():
            self.future.set_result(None)


class UnshownCall(AwaitedCall):
    """A ranking that no user sees: it leaves no exposure, and no line in the ranking log."""

    __slots__ = ()
    is_shown = False
