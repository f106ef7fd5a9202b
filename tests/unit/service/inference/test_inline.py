"""Quick batches run on the event loop, all others in threads; a run that is not as quick as expected is moved there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.errors import InferenceFailed
from service.inference import inline as inline_module
from service.inference.deployment import Deployment
from service.inference.inline import InlineRuns
from tests.support.builders import TinyModel
from tests.support.deployments import OLD, SETTINGS, Asked, Rig, rig_of, settings_of
from tests.support.waiting import wait_until

SLOW = "i9"  # in a history, it sends the graph into a loop of as many rounds as the model was made with
ROUNDS = 500_000  # of some microseconds; far beyond what a run on the event loop may take
MAIN = "MainThread"


# --- what is expected to be quick


def test_before_the_first_measurement_one_row_may_run_here() -> None:
    runs = InlineRuns(is_possible=True)
    assert [runs.fits(rows) for rows in (1, 2, 64)] == [True, False, False]


def test_on_a_gpu_none_may() -> None:
    runs = InlineRuns(is_possible=False)
    runs.note(64, 0.0001)
    assert not runs.fits(1)


def test_as_many_rows_may_as_are_done_in_a_few_milliseconds() -> None:
    runs = InlineRuns(is_possible=True)
    for _ in range(200):
        runs.note(8, 8 * 0.001)
    assert [runs.fits(rows) for rows in (1, 3, 5)] == [True, True, False]


def test_a_bundle_that_has_become_slow_may_not_until_it_is_quick_again() -> None:
    runs = InlineRuns(is_possible=True)
    for _ in range(20):
        runs.note(1, 0.02)
    assert not runs.fits(1)
    for _ in range(200):
        runs.note(64, 64 * 0.0001)
    assert runs.fits(8)


def test_one_pause_of_the_machine_does_not_keep_a_bundle_away_for_long() -> None:
    runs = InlineRuns(is_possible=True)
    for _ in range(100):
        runs.note(1, 0.0005)
    runs.note(1, 0.1)
    assert not runs.fits(1)
    for _ in range(20):
        runs.note(1, 0.0005)
    assert runs.fits(1)


def test_once_stopped_none_may_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(inline_module.time, "monotonic", lambda: now)
    runs = InlineRuns(is_possible=True)
    runs.stop()
    now += inline_module._AWAY_SECONDS
    assert not runs.fits(1)
    now += 0.001
    assert runs.fits(1)


# --- the thread that ends runs


class Engine:
    """Counts how often its runs are ended."""

    ended = 0

    def end_runs(self) -> None:
        self.ended += 1

    def has_ended_runs(self) -> bool:
        return self.ended > 0


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> inline_module._Watch:
    for name, seconds in (("_LONGEST_SECONDS", 0.01), ("_TICK_SECONDS", 0.001), ("_REST_SECONDS", 0.02)):
        monkeypatch.setattr(inline_module, name, seconds)
    watch = inline_module._Watch()
    monkeypatch.setattr(inline_module, "_WATCH", watch)
    return watch


def test_a_run_that_takes_too_long_is_ended_again_and_again_until_it_is_over(watch: inline_module._Watch) -> None:
    runs, engine = InlineRuns(is_possible=True), Engine()
    with runs.watched(engine):  # between two runs of a batch there is none to end: the next one is
        wait_until(lambda: engine.ended >= 3)
    ended = engine.ended
    with runs.watched(Engine()):
        pass
    time.sleep(0.03)
    assert engine.ended <= ended + 1  # the thread may have been about to


def test_the_end_of_a_run_is_noted_even_when_it_fails(watch: inline_module._Watch) -> None:
    engine = Engine()
    with pytest.raises(ZeroDivisionError), InlineRuns(is_possible=True).watched(engine):
        raise ZeroDivisionError
    ended = engine.ended
    wait_until(lambda: not watch._awake.is_set())  # the thread sleeps only when there is no run
    assert engine.ended <= ended + 1


def test_without_runs_the_thread_sleeps_and_the_next_run_wakes_it(watch: inline_module._Watch) -> None:
    runs, threads = InlineRuns(is_possible=True), set()
    for _ in range(3):
        with runs.watched(Engine()):
            threads.add(watch._thread)
        wait_until(lambda: not watch._awake.is_set())
        engine = Engine()
        with runs.watched(engine):
            wait_until(engine.has_ended_runs)
    assert len(threads) == 1


# --- a bundle's batches


def now_scored(deployment: Deployment, asked: Sequence[Asked]) -> list[bool]:
    """Submit requests; return which of them have their scores when that returns."""
    deployment.submit(asked)
    return [bool(one.values) for one in asked]


@pytest.fixture
def patient_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine may pause in the middle of a run that is quick."""
    monkeypatch.setattr(inline_module, "_LONGEST_SECONDS", 60.0)


async def deployment_of(rig: Rig) -> Deployment:
    await rig.deployments.prepare(frozenset({OLD}))
    rig.engines[0].ran_in.clear()
    return rig.get(OLD)


@pytest.mark.anyio
@pytest.mark.onnx
@pytest.mark.usefixtures("patient_watch")
async def test_quick_batches_run_on_the_event_loop_and_larger_ones_in_a_thread(tmp_path: Path) -> None:
    model = TinyModel()
    async with rig_of(tmp_path, model) as rig:
        deployment = await deployment_of(rig)
        alone = Asked(3, 4, history=["i1"])
        assert now_scored(deployment, [alone]) == [True]
        several = [Asked(3, 4, history=["i2"]) for _ in range(SETTINGS.batching.max_rows)]
        assert now_scored(deployment, several) == [False] * len(several)
        assert np.allclose((await alone.outcome()).scores, model.expected([1], [3, 4]), atol=1e-6)
        for asked in several:
            assert np.allclose((await asked.outcome()).scores, model.expected([2], [3, 4]), atol=1e-6)
        ours, threads = rig.engines[0].ran_in
        assert (ours, threads.startswith("inference")) == (MAIN, True)


@pytest.mark.anyio
@pytest.mark.onnx
async def test_a_thread_that_waits_does_not_keep_a_bundle_in_the_threads(tmp_path: Path) -> None:
    """Beside a busy event loop a thread waits for the interpreter, however quick its batch is."""
    async with rig_of(tmp_path, TinyModel()) as rig:
        deployment = await deployment_of(rig)
        rig.engines[0].delay = 0.3  # a sleep: no processor is used
        several = [Asked(history=["i2"]) for _ in range(SETTINGS.batching.max_rows)]
        assert not any(now_scored(deployment, several))
        for asked in several:
            await asked.outcome()
        assert deployment._inline.fits(1)


@pytest.mark.anyio
@pytest.mark.onnx
@pytest.mark.usefixtures("patient_watch")
async def test_a_bundle_that_turns_out_slow_goes_to_the_threads(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        deployment = await deployment_of(rig)
        rig.engines[0].delay = 0.02
        assert now_scored(deployment, [Asked(history=["i1"])]) == [True]
        asked = Asked(history=["i2"])
        assert now_scored(deployment, [asked]) == [False]
        await asked.outcome()
        ours, threads = rig.engines[0].ran_in
        assert ours == MAIN
        assert threads.startswith("inference")


@pytest.mark.anyio
@pytest.mark.onnx
async def test_a_run_that_takes_too_long_is_ended_and_run_again_in_a_thread(tmp_path: Path) -> None:
    model = TinyModel(slow_item=9, trips=ROUNDS)
    async with rig_of(tmp_path, model, settings=settings_of(limits={"max_deadline_ms": 60_000})) as rig:
        deployment = await deployment_of(rig)
        asked = Asked(3, 4, history=["i1", SLOW], seconds=60)
        assert now_scored(deployment, [asked]) == [False]
        assert rig.engines[0].ran_in == [MAIN]
        assert np.allclose((await asked.outcome()).scores, model.expected([1, 9], [3, 4]), atol=1e-6)
        quick = Asked(3)
        assert now_scored(deployment, [quick]) == [False]  # the bundle's batches stay there for a while
        await quick.outcome()
        assert [name.startswith("inference") for name in rig.engines[0].ran_in] == [False, True, True]
        assert len(asked.values) == 1
        assert deployment.is_healthy
        assert rig.made == 1
        assert rig.shown("ranker_runs_ended_total{") == ['ranker_runs_ended_total{bundle="tiny@1"} 0.0']
        assert rig.shown("ranker_engine_failures_total{") == ['ranker_engine_failures_total{bundle="tiny@1"} 0.0']


@pytest.mark.anyio
@pytest.mark.onnx
async def test_a_run_that_never_ends_is_ended_here_and_there_and_the_bundle_answers_again(tmp_path: Path) -> None:
    """The loop in the graph has 2^60 rounds: only ONNX Runtime itself can leave it."""
    model = TinyModel(slow_item=9, trips=2**60)
    async with rig_of(tmp_path, model) as rig:
        deployment = await deployment_of(rig)
        deployment._run_seconds = 0.5
        endless, behind = Asked(history=[SLOW]), Asked(3)
        deployment.submit([endless])
        deployment.submit([behind])
        with pytest.raises(InferenceFailed):
            await endless.outcome()
        assert np.allclose((await behind.outcome()).scores, model.expected([1, 2], [3]), atol=1e-6)
        assert [name.startswith("inference") for name in rig.engines[0].ran_in] == [False, True, True]
        assert deployment.is_healthy
        assert rig.made == 1
        assert rig.shown("ranker_runs_ended_total{") == ['ranker_runs_ended_total{bundle="tiny@1"} 1.0']
        assert rig.shown("ranker_engine_failures_total{") == ['ranker_engine_failures_total{bundle="tiny@1"} 1.0']
