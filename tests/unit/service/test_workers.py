"""Whichever worker is asked, every process is counted once, and no counter falls when one of them ends."""

from __future__ import annotations

import os
import re
from typing import Any

import orjson
import pytest

from service.errors import NotReady
from service.metrics import Metrics
from service.workers import Workers

pytestmark = pytest.mark.anyio


class Worker:
    """One worker; `listed` is what the supervisor would hand to the others."""

    def __init__(self, process_id: int, degraded: int = 0) -> None:
        self.process_id, self.metrics = process_id, Metrics()
        self.workers = Workers(self.metrics, lambda: "ready", lambda: "digest")
        self.count(degraded)

    def count(self, degraded: int) -> None:
        for _ in range(degraded):
            self.metrics.degraded("popularity")
        self.metrics.connections(degraded)

    def listed(self, is_alive: bool = True) -> dict[str, Any]:
        report = orjson.loads(self.workers.report())
        return {"worker": 0, "process_id": self.process_id, "restarts": 0, "is_alive": is_alive, "report": report}


async def asked(worker: Worker, *listed: dict[str, Any]) -> dict[str, float]:
    """Return some metrics of all workers, as one of them renders them."""

    async def ask() -> bytes:
        return orjson.dumps([worker.listed(), *listed])

    worker.workers.ask = ask
    await worker.workers.gather()
    text = worker.workers.render().decode()
    names = {
        "degraded": 'ranker_degraded_total{reason="popularity"}', "connections": "ranker_connections",
        "workers": "ranker_workers", "restarts": "ranker_worker_restarts_total",
    }  # fmt: skip
    found = {name: re.search(rf"^{re.escape(series)} (\S+)$", text, re.M) for name, series in names.items()}
    return {name: float(match[1]) for name, match in found.items() if match is not None}


@pytest.fixture
def me() -> Worker:
    return Worker(os.getpid(), 2)


async def test_all_workers_are_counted_once(me: Worker) -> None:
    assert await asked(me, Worker(1, 3).listed()) == {"degraded": 5, "connections": 5, "workers": 2, "restarts": 0}


async def test_a_worker_that_ended_keeps_its_counters_and_no_gauge(me: Worker) -> None:
    ended = Worker(1, 3).listed(is_alive=False)
    assert await asked(me, ended) == {"degraded": 5, "connections": 2, "workers": 1, "restarts": 0}


async def test_whoever_takes_its_place_counts_on(me: Worker) -> None:
    old, new = Worker(1, 3), Worker(2, 1)
    new.workers.inherit(orjson.dumps(old.listed(is_alive=False)))
    assert await asked(me, new.listed()) == {"degraded": 6, "connections": 3, "workers": 2, "restarts": 1}
    newest = Worker(3)
    newest.workers.inherit(orjson.dumps(new.listed(is_alive=False)))
    assert await asked(me, newest.listed()) == {"degraded": 6, "connections": 2, "workers": 2, "restarts": 2}


async def test_a_worker_that_was_inherited_and_is_still_listed_is_counted_once(me: Worker) -> None:
    old, new = Worker(1, 3), Worker(2)
    last = old.listed(is_alive=False)
    new.workers.inherit(orjson.dumps(last))
    assert (await asked(me, new.listed(), last))["degraded"] == 5
    me.workers.inherit(orjson.dumps(last))
    assert (await asked(me, last))["degraded"] == 5


async def test_the_only_process_asks_no_one() -> None:
    worker = Worker(os.getpid(), 2)
    await worker.workers.gather()
    assert b'ranker_degraded_total{reason="popularity"} 2.0' in worker.workers.render()
    [state] = await worker.workers.states()
    assert (state.worker, state.process_id, state.status, state.experiments) == (0, os.getpid(), "ready", "digest")


async def test_without_the_supervisor_there_are_no_metrics_rather_than_too_low_ones(me: Worker) -> None:
    async def ask() -> bytes:
        raise TimeoutError

    me.workers.ask = ask
    with pytest.raises(NotReady):
        await me.workers.gather()
    with pytest.raises(NotReady):
        await me.workers.slowest(ask)
