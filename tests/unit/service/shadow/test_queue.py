"""The queue before a shadow: bounded, never awaited by a ranking, and answers of the process are not trusted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import orjson
import pytest

from contract.behaviours.records import RECORD
from contract.experiments.shadows import ShadowBundle
from service.bundles.registry import BundleRegistry
from service.metrics import Metrics
from service.metrics.buckets import DIFFERENCES
from service.settings.root import Settings
from service.settings.shadow import ShadowSettings
from service.shadow.comparison import compare
from service.shadow.link import ShadowFailed
from service.shadow.messages import Answered, Asked, Malformed, answer_of
from service.shadow.queue import Ranked, ShadowQueue
from service.shadow.shadows import Shadows
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SCORES = np.array([1.0, 2.0], dtype=np.float32)


def ranked(user: str = "u1") -> Ranked:
    return Ranked(
        "served@1", 0.001, user, np.zeros(0, dtype=RECORD), ["i1", "i2", "i3"], np.array([0, 2]), SCORES, 5, {}
    )


class FakeLink:
    """A process that waits while it is frozen."""

    process_id = 1

    def __init__(self) -> None:
        self.asked: list[list[Asked]] = []
        self.thawed = asyncio.Event()
        self.fails = False
        self.closed = 0

    async def ask(self, batch: Sequence[Asked], seconds: float) -> Answered:
        self.asked.append(list(batch))
        await self.thawed.wait()
        if self.fails:
            raise ShadowFailed("of the test")
        return Answered(0.002, [compare(SCORES, SCORES) for _ in batch])

    async def close(self) -> None:
        self.closed += 1


class Rig:
    def __init__(self, seconds: float, is_named: Callable[[], bool]) -> None:
        self.metrics, self.link, self.starts = Metrics(), FakeLink(), 0
        self.queue = ShadowQueue(
            "shadow@1", self._start, is_named, self.metrics, size=3, seconds=seconds, pauses=(0.0,), look_seconds=0.001
        )

    async def _start(self) -> FakeLink:
        self.starts += 1
        return self.link

    def count(self, name: str, more: str = "") -> float:
        found = [
            line for line in self.metrics.render().decode().splitlines()
            if line.startswith(f"ranker_shadow_{name}{{") and more in line
        ]  # fmt: skip
        return sum(float(line.rpartition(" ")[2]) for line in found)


@asynccontextmanager
async def rig_of(seconds: float = 60.0, is_named: Callable[[], bool] = lambda: True) -> AsyncIterator[Rig]:
    rig = Rig(seconds, is_named)
    try:
        yield rig
    finally:
        await rig.queue.close()


async def test_a_frozen_shadow_fills_its_queue_and_further_rankings_are_dropped_and_counted() -> None:
    async with rig_of() as rig:
        rig.queue.offer(ranked())
        await until(lambda: len(rig.link.asked) == 1)
        for _ in range(10):
            rig.queue.offer(ranked())  # no coroutine: there is nothing that a ranking could wait for
        assert rig.count("dropped_total", 'reason="full"') == 7
        rig.link.thawed.set()
        await until(lambda: rig.count("rankings_total") == 4)
        assert [len(batch) for batch in rig.link.asked] == [1, 3]
        assert rig.count("failures_total") == 0


async def test_the_process_gets_the_scored_candidates_only() -> None:
    async with rig_of() as rig:
        rig.link.thawed.set()
        rig.queue.offer(ranked("u7"))
        await until(lambda: rig.count("rankings_total") == 1)
        [[asked]] = rig.link.asked
        assert (asked.user_id, asked.item_ids, asked.scores) == ("u7", ["i1", "i3"], SCORES.tobytes())


async def test_a_ranking_that_waits_too_long_is_dropped() -> None:
    async with rig_of(seconds=-1.0) as rig:
        rig.queue.offer(ranked())
        await until(lambda: rig.count("dropped_total", 'reason="late"') == 1)
        assert rig.starts == 0


async def test_after_a_fault_the_process_is_ended_and_another_one_started() -> None:
    async with rig_of() as rig:
        rig.link.fails = True
        rig.link.thawed.set()
        rig.queue.offer(ranked())
        await until(lambda: rig.count("failures_total") == 1)
        rig.link.fails = False
        rig.queue.offer(ranked())
        await until(lambda: rig.count("rankings_total") == 1)
        assert (rig.starts, rig.link.closed) == (2, 1)


async def test_the_process_ends_when_no_file_names_the_shadow() -> None:
    named = [True]
    async with rig_of(is_named=lambda: named[0]) as rig:
        rig.link.thawed.set()
        rig.queue.offer(ranked())
        await until(lambda: rig.count("rankings_total") == 1)
        named[0] = False
        await until(lambda: rig.link.closed == 1)


async def test_a_busy_service_gives_its_shadows_nothing() -> None:
    metrics, settings = Metrics(), Settings(shadow=ShadowSettings(queue=1))
    shadows = Shadows(settings, BundleRegistry(settings.bundles.root), metrics, frozenset, lambda: True)
    shadows.offer(ShadowBundle("shadow", "1", 1.0), "r1", ranked)
    assert shadows.queue("shadow", "1") is None
    dropped = 'ranker_shadow_dropped_total{reason="busy",served="served@1",shadow="shadow@1"} 1.0'
    assert dropped in metrics.render().decode().splitlines()


def _row(**changes: object) -> list[object]:
    row = {"scored": 2, "correlation": 0.5, "overlap": 1.0, "above": _side(), "below": _side(), **changes}
    return list(row.values())


def _side(buckets: object = None, total: object = 0.0) -> list[object]:
    return [total, 0.0, [0] * (len(DIFFERENCES) + 1) if buckets is None else buckets]


def test_an_answer_is_read() -> None:
    found = answer_of(orjson.dumps({"seconds": 0.5, "rows": [_row(), None]}), 2)
    assert found.seconds == 0.5
    assert found.comparisons[0] is not None
    assert found.comparisons[0].correlation == 0.5
    assert found.comparisons[1] is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", orjson.dumps({"seconds": "x", "rows": [_row()]}), orjson.dumps({"seconds": 1, "rows": []}),
        orjson.dumps({"seconds": 1, "rows": [_row()[:3]]}),
        orjson.dumps({"seconds": 1, "rows": [_row(above=_side([1]))]}),
        orjson.dumps({"seconds": 1, "rows": [_row(above=_side(total=None))]}),
        orjson.dumps({"seconds": 1, "rows": [_row(correlation=True)]}), b'{"seconds": 1e999, "rows": [null]}',
    ],
)  # fmt: skip
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        answer_of(content, 1)
