"""Fakes of the parts behind the routes: each implements the Protocol of service/runtime.py, and records its calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import numpy as np

from contract.behaviours.records import RECORD, Records
from contract.events.activity import Report, clamped
from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from contract.experiments.decision import UNDECIDED, Decision
from service.bundles.bundle import Bundle
from service.errors import CALLER_GONE, RankerError
from service.experiments.feedback import Taken
from service.experiments.overrides import Overrides
from service.http.api import make_api
from service.metrics import Metrics
from service.ranking.answer import Explanation, Ranking
from service.ranking.call import RankCall
from service.runtime import Backend, Runtime
from service.settings.http import HttpSettings
from service.settings.limits import LimitsSettings
from service.settings.root import Settings
from service.store.behaviours import AppendResult, StoredBehaviours, StoreUnavailable
from service.store.streams import Receipt

NOW_MS = 1_700_000_000_000
EXPERIMENTS: dict[str, Any] = {
    "schema": 1,
    "revision": "test.1",
    "overrides": {"header_enabled": True},
    "layers": [
        {
            "key": "rank",
            "salt": "rank",
            "defaults": {"model": "mgnm", "version": "1"},
            "experiments": [
                {
                    "key": "pyramid-vs-mgnm", "kind": "ab", "salt": "pyramid-vs-mgnm", "status": "running",
                    "owner": "us", "start": "2023-11-01T00:00:00Z", "end": "2023-12-01T00:00:00Z",
                    "slots": [[0, 10_000]],
                    "arms": [
                        {"key": "control", "buckets": [[0, 5_000]]},
                        {"key": "treatment", "buckets": [[5_000, 10_000]], "params": {"model": "pyramid_mixer"}},
                    ],
                }
            ],
        }
    ],
}  # fmt: skip


class TaskCounts:
    """Counts what happens to background tasks, by kind."""

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()
        self.restarted: Counter[str] = Counter()

    def task_failed(self, task: str) -> None:
        self.failed[task] += 1

    def task_restarted(self, task: str) -> None:
        self.restarted[task] += 1


class BrokenLog:
    """A logger that fails on every call."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise BrokenPipeError(f"the log is gone: {name}")

        return fail


@dataclass
class FakeRanker:
    """Ranks by reversing; unknown are those whose id begins with `new`."""

    asked: list[RankCall] = field(default_factory=list)
    tasks: dict[RankCall, asyncio.Task[None]] = field(default_factory=dict)  # of calls that are not waited for
    error: RankerError | None = None
    degraded: tuple[Any, ...] = ()
    is_ready: bool = True

    async def rank(self, call: RankCall) -> Ranking:
        self.asked.append(call)
        if self.error is not None:
            raise self.error
        return self._ranking(call)

    def submit(self, call: RankCall) -> None:
        call.ranker = self  # type: ignore[assignment]  # it does not score
        self.tasks[call] = asyncio.get_running_loop().create_task(self._answer(call))

    async def _answer(self, call: RankCall) -> None:
        try:
            call.answer = await self.rank(call)
        except Exception as error:
            call.error = error
        self.end(call)

    def end(self, call: RankCall) -> None:
        if not call.is_over:
            call.is_over = True
            call.finished()
        task = self.tasks.pop(call, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel(*[CALLER_GONE] * call.is_gone)

    def _ranking(self, call: RankCall) -> Ranking:
        distinct = list(dict.fromkeys(call.item_ids))
        known = [item for item in distinct if not item.startswith("new")][::-1]
        unknown = [item for item in distinct if item.startswith("new")]
        items = [*known, *unknown][: call.limit]
        count = min(len(known), len(items))
        explanation = Explanation(
            read=0, recent=len(call.recent), corrupt=0, used=0, truncated=0, unread_behaviours=0, unknown_behaviours=0,
            unknown_candidates=len(unknown), state_cached=False, user={"period_weights": [0.2, 0.3, 0.5]},
            items={"level": [1] * count + [None] * (len(items) - count)},
        )  # fmt: skip
        return Ranking(
            item_ids=items,
            scores=[*(float(-place) for place in range(count)), *[None] * (len(items) - count)],
            known=[*[True] * count, *[False] * (len(items) - count)],
            model=str(call.decision.parameters["model"]),
            version="1",
            degraded=self.degraded,
            timings={"store": 0.0006, "queue": 0.0002, "total": 0.0029},
            explanation=explanation if call.explain else None,
        )


class FakeExperiments:
    """The experiments above, or none accepted yet."""

    def __init__(self, document: dict[str, Any] | None = None) -> None:
        self.snapshot: ExperimentsSnapshot | None = snapshot_of(document or EXPERIMENTS)
        self.counted: list[Decision] = []

    def decide(
        self, unit: object, attributes: Mapping[str, object], now_ms: int, forced: Mapping[str, str] | None = None
    ) -> Decision:
        if self.snapshot is None:
            return UNDECIDED
        self.counted.append(self.snapshot.decide(unit, attributes, now_ms, forced))
        return self.counted[-1]

    def undecided(self, reason: Literal["not_ranked", "error"] = "not_ranked") -> Decision:
        return self.snapshot.undecided(reason) if self.snapshot is not None else UNDECIDED

    def describe(self) -> dict[str, object] | None:
        if self.snapshot is None:
            return None
        return {"digest": self.snapshot.digest, "revision": self.snapshot.config.revision, "tracks": {}}


@dataclass
class FakeStore:
    """Behaviours in a dictionary; exact repeats are dropped, as Redis' script does."""

    users: dict[str, Records] = field(default_factory=dict)
    wrong: frozenset[str] = frozenset()  # users whose key has another type
    is_down: bool = False

    def begin_read(self, user_ids: Sequence[str], done: Callable[[list[StoredBehaviours]], None]) -> bool:
        return False

    async def read(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        nothing = np.zeros(0, dtype=RECORD)
        if self.is_down:
            return [StoredBehaviours(nothing, status="unavailable")] * len(user_ids)
        return [
            StoredBehaviours(nothing, status="wrong_type")
            if user_id in self.wrong
            else StoredBehaviours(self.users.get(user_id, nothing))
            for user_id in user_ids
        ]

    async def some_users(self, prefix: str, limit: int) -> list[str]:
        if self.is_down:
            raise StoreUnavailable
        return [user_id for user_id in self.users if user_id.startswith(prefix)][:limit]

    async def append(self, behaviours: Mapping[str, Records]) -> dict[str, AppendResult]:
        if self.is_down:
            raise StoreUnavailable
        return {user_id: self._append(user_id, records) for user_id, records in behaviours.items()}

    def _append(self, user_id: str, records: Records) -> AppendResult:
        if user_id in self.wrong:
            return AppendResult(error="wrong_type")
        old = self.users.get(user_id, np.zeros(0, dtype=RECORD))
        seen = {record.tobytes() for record in old}
        fresh = []
        for record in records[np.argsort(records["time_ms"], kind="stable")]:
            if record.tobytes() not in seen:
                seen.add(record.tobytes())
                fresh.append(record)
        self.users[user_id] = np.concatenate([old, np.array(fresh, dtype=RECORD)])
        return AppendResult(stored=len(fresh), repeated=len(records) - len(fresh))


@dataclass
class FakeFeedback:
    """Takes as many pieces of activity as it has room for."""

    room: int = 1_000_000
    taken: list[Report] = field(default_factory=list)
    stores: bool | None = True  # what becomes of events; None: nothing, ever

    def take(
        self, feedback: Sequence[Report], now_ms: int, latest_ms: int, receipt: Receipt | None = None
    ) -> list[Taken]:
        return [self._take(event, now_ms, latest_ms, receipt) for event in feedback]

    def _take(self, event: Report, now_ms: int, latest_ms: int, receipt: Receipt | None) -> Taken:
        ts = event.get("ts", now_ms)
        if "action" in event and ts > latest_ms:
            return "future"
        if len(self.taken) >= self.room:
            return "full"
        self.taken.append(event)
        if receipt is not None:
            receipt.taken()
            if self.stores is not None:
                receipt.settle(self.stores)
        return "" if "action" in event or clamped(ts, now_ms) == ts else "clamped"


class FakeItems:
    """Keeps features of items, or fails."""

    def __init__(self) -> None:
        self.stored: dict[str, object] = {}
        self.fault: Exception | None = None

    async def store(self, items: Mapping[str, object]) -> None:
        if self.fault is not None:
            raise self.fault
        self.stored |= items


@dataclass
class FakeBundles:
    """No bundles, or those given."""

    bundles: list[Bundle] = field(default_factory=list)

    def describe(self) -> list[dict[str, object]]:
        return [
            {
                "name": "mgnm@1", "model": "mgnm", "version": "1", "digest": "0" * 64, "provider": "cpu",
                "is_healthy": True, "items": 20, "length": 50,
            }
        ]  # fmt: skip

    def served(self) -> list[Bundle]:
        return self.bundles


PATIENT = Settings(
    limits=LimitsSettings(deadline_ms=60_000, max_deadline_ms=90_000),  # the machine may pause
    http=HttpSettings(docs_enabled=True),
)


class Edge:
    """The whole HTTP layer before fakes."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or PATIENT
        self.metrics = Metrics()
        self.secret = "for tests"
        self.runtime = Runtime(self.settings, self.metrics, "test", now_ms=lambda: NOW_MS)
        self.reset()
        self.app = make_api(self.runtime)

    def reset(self) -> None:
        """Put new fakes behind the routes: an application takes a tenth of a second to make, fakes take nothing."""
        self.ranker, self.experiments, self.store = FakeRanker(), FakeExperiments(), FakeStore()
        self.feedback, self.bundles, self.items = FakeFeedback(), FakeBundles(), FakeItems()
        self.runtime.backend = Backend(
            ranker=self.ranker,
            experiments=self.experiments,
            overrides=Overrides(self.secret, self.metrics.override_rejected),
            store=self.store,
            items=self.items,
            feedback=self.feedback,
            bundles=self.bundles,
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            yield client

    def samples(self, name: str) -> dict[str, float]:
        """Return the samples of a metric by the text of their labels, as they are exposed."""
        lines = self.metrics.render().decode().splitlines()
        found = [line.rsplit(" ", 1) for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        return {series.removeprefix(name): float(value) for series, value in found}
