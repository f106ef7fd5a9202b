"""A ranker and everything around it: a store in memory, two real tiny bundles, experiments, exposures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from contract.behaviours.records import RECORD, Records
from contract.experiments.decision import Decision, LayerArm, LayerDecision
from contract.experiments.interleaving import INTERLEAVED
from contract.experiments.shadows import ShadowBundle
from service.bundles.bundle import Bundle
from service.errors import DeadlineExceeded, InferenceFailed
from service.experiments.exposures import Outcome
from service.inference.deployment import Scoring
from service.inference.engine import OnnxEngine
from service.inference.inputs import RankRow
from service.inference.scorer import Inference, ScoredRow
from service.inference.state_cache import StateCache
from service.metrics import Metrics
from service.ranking.answer import Ranking
from service.ranking.call import AwaitedCall
from service.ranking.ranker import Ranker
from service.settings.batching import BatchingSettings
from service.settings.inference import InferenceSettings
from service.settings.limits import LimitsSettings
from service.settings.redis import RedisSettings
from service.settings.root import Settings
from service.shadow.queue import Ranked
from service.store.behaviours import StoredBehaviours
from tests.support.builders import TinyModel

CONTROL, TREATMENT = TinyModel(model="control"), TinyModel(model="treatment", offset=1_000, poison_candidate=13)
NO_RECORDS: Records = np.zeros(0, dtype=RECORD)


class Store:
    """Stored behaviours in memory; waits while its gate is closed."""

    def __init__(self) -> None:
        self.users: dict[str, StoredBehaviours] = {}
        self.is_slow: Callable[[Sequence[str]], bool] = lambda _: True  # which reads wait at the gate
        self.fault: Exception | None = None
        self.wholes: dict[str, StoredBehaviours] = {}
        self.reads: list[list[str]] = []
        self.whole_reads: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()

    def begin_read(self, user_ids: Sequence[str], done: Callable[[list[StoredBehaviours]], None]) -> bool:
        return False

    async def read(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        self.reads.append(list(user_ids))
        if self.is_slow(user_ids):
            await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return [self.users.get(user_id, StoredBehaviours(NO_RECORDS)) for user_id in user_ids]

    async def read_whole(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        self.whole_reads.append(list(user_ids))
        return [self.wholes[user_id] for user_id in user_ids]


class Served:
    """A real bundle, scored at once; or the fault it is told to show."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.inference = Inference(bundle, OnnxEngine(bundle, "cpu", threads=1), StateCache(100))
        self.is_healthy, self.is_slow = True, False
        self.fault: Exception | None = None
        self.breaks = False
        self.hangs = False
        self.rows: list[RankRow] = []
        self.batches: list[int] = []
        self.deadlines: list[float] = []

    def submit(self, entries: Sequence[Scoring]) -> None:
        rows = [entry.row for entry in entries]
        self.rows += rows
        self.batches.append(len(rows))
        self.deadlines += [entry.until for entry in entries]
        for entry, value in zip(entries, self._values(rows), strict=True):
            entry.waited = 0.001
            entry.scored(value)

    def _values(self, rows: list[RankRow]) -> Sequence[ScoredRow | Exception]:
        if self.hangs:  # as a batcher does at the deadline it was given, which leaves time to answer
            return [DeadlineExceeded()] * len(rows)
        if self.breaks:
            self.is_healthy = False
            return [InferenceFailed()] * len(rows)
        if self.fault is not None:
            return [self.fault] * len(rows)
        return self.inference.run(rows)


class Experiments:
    """One layer whose default is the control."""

    def __init__(self) -> None:
        self.decision = decision_of("control", reason="not_ranked")

    def undecided(self) -> Decision:
        return self.decision


class Exposures:
    """Notes what is recorded."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.faults: set[str] = set()  # requests whose exposure cannot be written

    def record(self, decision: Decision, outcome: Outcome) -> int:
        if outcome.request_id in self.faults:
            raise ZeroDivisionError("unforeseen")
        self.outcomes.append(outcome)
        return 1


class Shadows:
    """Notes which rankings are offered to which shadow; fails if it is told to."""

    def __init__(self) -> None:
        self.offered: list[tuple[ShadowBundle, str, Ranked]] = []
        self.fault: Exception | None = None

    def offer(self, shadow: ShadowBundle, request_id: str, make: Callable[[], Ranked]) -> None:
        if self.fault is not None:
            raise self.fault
        self.offered.append((shadow, request_id, make()))


class World:
    """A ranker and everything around it."""

    def __init__(self, served: Mapping[str, Served], settings: Settings, items: Any = None) -> None:
        self.store, self.experiments, self.exposures, self.metrics = Store(), Experiments(), Exposures(), Metrics()
        self.served, self.shadows = dict(served), Shadows()
        self.ranker = Ranker(
            self.store, self, self.experiments, self.exposures, self.metrics, settings, now_ms=lambda: 1_234,
            items=items, shadows=self.shadows,
        )  # fmt: skip

    def find(self, model: str, version: str) -> Served | None:
        return self.served.get(model) if version == "1" else None

    async def rank(self, candidates: Sequence[str], arm: str = "treatment", **fields: Any) -> Ranking:
        return await self.ranker.rank(call_of(candidates, decision_of(arm), **fields))

    def shown(self, line: str) -> bool:
        return line in self.metrics.render().decode().splitlines()


def decision_of(model: str, reason: Any = "split") -> Decision:
    other = LayerDecision("look", None, None, "unallocated", 1, None, False, {"colour": "blue"}, "")
    parameters = {"model": model, "version": "1"}
    return Decision((other, LayerDecision("rank", "e", model, reason, 1, 2, False, parameters, "s")), "digest", "u1")


def both_models() -> Decision:
    """The decision for a user whose lists of both models are interleaved."""
    arms = [LayerArm(name, {"model": name, "version": "1"}) for name in ("control", "treatment")]
    pair = (arms[0], arms[1])
    layer = LayerDecision("rank", "e", INTERLEAVED, "split", 1, None, False, arms[0].parameters, "s", pair)
    return Decision((layer,), "digest", "u1", None, pair)


def call_of(candidates: Sequence[str], decision: Decision, **fields: Any) -> AwaitedCall:
    seconds, request_id = fields.pop("seconds", 10.0), fields.pop("request_id", "r1")
    user_id = fields.pop("user_id", "u1")
    fields.setdefault("deadline", asyncio.get_running_loop().time() + seconds)
    return AwaitedCall(request_id, user_id, candidates, decision, **fields)


def settings_of(
    *,
    max_inflight: int = 64,
    store_reads: int = 4,
    read_timeout_ms: int = 1_000,
    popularity_fallback: bool = True,
) -> Settings:
    return Settings(
        limits=LimitsSettings(max_inflight=max_inflight),
        batching=BatchingSettings(store_reads=store_reads),
        redis=RedisSettings(read_timeout_ms=read_timeout_ms),
        inference=InferenceSettings(popularity_fallback=popularity_fallback),
    )


@asynccontextmanager
async def world_of(bundles: Mapping[str, Bundle], *, items: Any = None, **limits: Any) -> AsyncIterator[World]:
    world = World({name: Served(bundle) for name, bundle in bundles.items()}, settings_of(**limits), items)
    try:
        yield world
    finally:
        world.store.open.set()
        await world.ranker.close()


def ordered(model: TinyModel, history: Sequence[int], candidates: Sequence[int]) -> list[str]:
    scores = model.expected(history, candidates)
    return [f"i{candidates[place]}" for place in np.argsort(-scores, kind="stable")]
