"""A background task outlives its faults, and every restart is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.experiments.live import Experiments
from service.flow import supervision
from service.flow.supervision import PAUSE_SECONDS, Supervised, supervise, supervise_job
from service.metrics import Metrics
from service.store.streams import EventStream
from tests.support.fakes import BrokenLog, TaskCounts
from tests.unit.service.store.test_streams import Drops, FakeClient

pytestmark = pytest.mark.anyio

NO_PAUSE = (0.0,)


class Work:
    """Meets the faults it was given, one a run; then runs until it is told to end."""

    def __init__(self, *faults: BaseException | None) -> None:
        self.faults = list(faults)
        self.runs = 0
        self.end = asyncio.Event()

    async def __call__(self) -> None:
        self.runs += 1
        await asyncio.sleep(0)
        if self.faults:
            fault = self.faults.pop(0)
            if fault is not None:
                raise fault
            return
        await self.end.wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition is another task's
            await asyncio.sleep(0)


@pytest.mark.parametrize("fault", [ValueError("x"), asyncio.CancelledError(), None], ids=["error", "cancelled", "end"])
async def test_a_loop_is_started_again_after_every_unexpected_end(fault: BaseException | None) -> None:
    counts, work = TaskCounts(), Work(fault, fault)
    with capture_logs() as logs:
        task = supervise("stream", work, counts, pause_seconds=NO_PAUSE)
        await until(lambda: work.runs == 3)
    assert counts.failed == counts.restarted == {"stream": 2}
    assert [(line["event"], line["task"], line["faults"]) for line in logs] == [
        ("task_restarts", "stream", 1),
        ("task_restarts", "stream", 2),
    ]
    await task.cancel()
    assert task.is_done


async def test_a_job_ends_when_it_has_returned_once() -> None:
    counts, work = TaskCounts(), Work(ValueError("x"), None)
    done: list[Supervised] = []
    job = supervise_job("bundle_release", work, counts, pause_seconds=NO_PAUSE)
    job.when_done(done.append)
    await until(lambda: job.is_done)
    await until(lambda: done == [job])
    assert (work.runs, counts.restarted) == (2, {"bundle_release": 1})


async def test_a_log_that_fails_does_not_end_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.flow.supervision._log", BrokenLog())
    counts, work = TaskCounts(), Work(ValueError("x"))
    task = supervise("stream", work, counts, pause_seconds=NO_PAUSE)
    await until(lambda: work.runs == 2)
    await task.cancel()


async def test_finishing_waits_for_a_loop_that_was_told_to_end() -> None:
    work = Work()
    task = supervise("stream", work, TaskCounts(), pause_seconds=NO_PAUSE)
    await until(lambda: work.runs == 1)
    asyncio.get_running_loop().call_soon(work.end.set)
    await task.finish()
    assert (work.runs, task.is_done) == (1, True)


async def test_finishing_still_starts_a_task_again_that_fails_before_it_is_done() -> None:
    counts, work = TaskCounts(), Work(ValueError("while closing"), None)
    await supervise("stream", work, counts, pause_seconds=NO_PAUSE).finish()
    assert (work.runs, counts.restarted) == (2, {"stream": 1})


async def test_finishing_cancels_after_the_timeout_and_cancelling_ends_a_pause() -> None:
    counts = TaskCounts()
    task = supervise("stream", Work(), counts)
    await task.finish(0.001)
    assert task.is_done
    failing = supervise("stream", Work(*[ValueError("x")] * 100), counts, pause_seconds=(3600.0,))
    await until(lambda: counts.failed["stream"] == 1)
    await failing.cancel()
    assert counts.failed == counts.restarted  # so that the gauge is back at 0


async def test_a_loop_that_misses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_AGAIN_SECONDS", 0.01)
    missed = 0

    async def run() -> None:
        nonlocal missed
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            missed += 1
        await asyncio.Event().wait()

    loop = supervise("bundles", run, TaskCounts())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await loop.cancel()
    assert (missed, loop.is_done) == (1, True)


async def test_the_pauses_grow_and_are_bounded() -> None:
    slept: list[float] = []

    counts, work = TaskCounts(), Work(*[ValueError("x")] * 8)
    with pytest.MonkeyPatch.context() as patch:
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            if seconds or counts.failed["stream"] > len(slept):
                slept.append(seconds)
            await real(0)

        patch.setattr("service.flow.supervision.asyncio.sleep", sleep)
        task = supervise("stream", work, counts)
        await until(lambda: work.runs == 9)
        await task.cancel()
    assert slept == [*PAUSE_SECONDS, PAUSE_SECONDS[-1], PAUSE_SECONDS[-1]]


async def test_metrics_show_the_restarts_and_what_is_down() -> None:
    metrics = Metrics()

    def shown(name: str) -> list[str]:
        return [line for line in metrics.render().decode().splitlines() if line.startswith(f'{name}{{task="stream"')]

    metrics.task_failed("stream")
    assert shown("ranker_tasks_down") == ['ranker_tasks_down{task="stream"} 1.0']
    metrics.task_restarted("stream")
    assert shown("ranker_tasks_down") == ['ranker_tasks_down{task="stream"} 0.0']
    assert shown("ranker_task_restarts_total") == ['ranker_task_restarts_total{task="stream"} 1.0']


# --- the tasks that died forever when the log was gone


async def test_a_flusher_whose_own_warning_fails_writes_all_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.streams._log", BrokenLog())
    monkeypatch.setattr("service.store.streams._RETRY_SECONDS", (0,))
    client, drops, counts = FakeClient(ConnectionError(), [ValueError("refused")]), Drops(), TaskCounts()
    stream = EventStream(client, "s", on_drop=drops, interval_seconds=0, observer=counts)
    stream.offer(b"event")
    stream.start()
    await until(lambda: len(stream) == 0)
    assert client.batches[-1] == [b"event"]
    assert counts.restarted["stream"] >= 1
    await stream.close()
    assert not drops


async def test_a_watcher_that_meets_a_fault_still_takes_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    class Observer(TaskCounts):
        def experiments_reloaded(self, result: str) -> None:
            looked.append(result)
            if len(looked) < 3:
                raise RuntimeError("a fault that nobody foresaw")

    counts = Observer()
    experiments = Experiments(tmp_path / "none.yaml", versions=lambda _model: [], observer=counts)  # type: ignore[arg-type]
    task = supervise("experiments", lambda: experiments.watch(0.001), counts, pause_seconds=NO_PAUSE)
    await until(lambda: len(looked) >= 4)
    await task.cancel()
    assert counts.restarted == {"experiments": 2}
