"""A bundle that breaks, hangs or is slow is rebuilt, stopped or avoided; its requests are still answered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event

import pytest

from service.bundles.bundle import load_bundle
from service.errors import InferenceFailed
from service.inference import deployment as deployment_module
from service.inference.engine import OnnxEngine
from tests.support.builders import TinyModel
from tests.support.deployments import OLD, Asked, rig_of, score, settings_of
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]


async def test_a_poisoned_request_fails_alone_and_the_engine_stays_in_service(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(poison_candidate=9)) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        asked = [Asked(9 if number == 2 else 1, user=f"u{number}") for number in range(5)]
        deployment.submit(asked)
        results = await asyncio.gather(*(one.outcome() for one in asked), return_exceptions=True)
        assert [isinstance(result, InferenceFailed) for result in results] == [number == 2 for number in range(5)]
        assert deployment.is_healthy
        assert len(rig.engines) == 1
        assert rig.shown("ranker_engine_failures_total{")


async def test_an_engine_that_breaks_is_replaced_by_another(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        rig.engines[0].broken = True
        with pytest.raises(InferenceFailed):
            await score(deployment)
        assert not deployment.is_healthy
        await until(lambda: deployment.is_healthy)
        assert await score(deployment)
        assert [engine.closed for engine in rig.engines] == [True, False]
        assert len(rig.shown("ranker_bundle_info{")) == 1


async def test_auto_goes_to_the_cpu_where_its_device_is_gone(tmp_path: Path) -> None:
    settings = settings_of(inference={"provider": "auto"})
    async with rig_of(tmp_path, TinyModel(), settings=settings) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        deployment._rebuild_seconds = (0.0,)
        rig.engines[0].broken = rig.refuse = True
        with pytest.raises(InferenceFailed):
            await score(deployment)
        await until(lambda: deployment.is_healthy)
        assert [engine.asked_for for engine in rig.engines] == ["auto", "cpu"]
        assert await score(deployment)


async def test_a_run_that_does_not_end_makes_the_bundle_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_module, "_STALL_SECONDS", 0.0)
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        gate = rig.engines[0].gate = Event()
        asked = [Asked(user=f"u{number}") for number in range(2)]
        deployment.submit(asked)
        await until(lambda: not deployment.is_healthy)
        gate.set()
        assert [len((await one.outcome()).scores) for one in asked] == [2, 2]
        assert deployment.is_healthy


async def test_a_bundle_that_is_slow_again_and_again_is_avoided_until_it_is_fast(tmp_path: Path) -> None:
    settings = settings_of(limits={"deadline_ms": 200})
    async with rig_of(tmp_path, TinyModel(), settings=settings) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        deployment._probe_seconds = (0.0,)
        rig.engines[0].delay = 0.3
        for number in range(3):
            assert not deployment.is_slow
            await score(deployment, user=f"u{number}")
        await until(lambda: deployment.is_slow)
        assert rig.shown("ranker_bundle_slow{") == ['ranker_bundle_slow{bundle="tiny@1"} 1.0']
        assert deployment.is_healthy
        rig.engines[0].delay = 0.0
        await until(lambda: not deployment.is_slow)
        assert rig.shown("ranker_bundle_slow{") == ['ranker_bundle_slow{bundle="tiny@1"} 0.0']
        assert await score(deployment)


async def test_a_bundle_that_is_slow_again_soon_waits_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(limits={"deadline_ms": 100})
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds in (5.0, 10.0, 20.0):
            pauses.append(seconds)
            rig.engines[0].delay = 0.0
        await real(min(seconds, 0.001))

    monkeypatch.setattr(deployment_module.asyncio, "sleep", sleep)
    async with rig_of(tmp_path, TinyModel(), settings=settings) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        for _ in range(3):
            rig.engines[0].delay = 0.12
            while not deployment.is_slow:
                await score(deployment)
                await real(0)
            await until(lambda: not deployment.is_slow)
        assert pauses == [5.0, 10.0, 20.0]


async def test_a_run_that_never_ends_is_ended_and_the_bundle_answers_again(tmp_path: Path) -> None:
    """The loop in the graph has 2^60 rounds: only ONNX Runtime itself can leave it."""
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        rig.get(OLD)._run_seconds = 0.2
        deployment, sound = rig.get(OLD), rig.engines[0]._sessions
        endless = load_bundle(TinyModel(model="endless", trips=2**60).write(tmp_path), max_bytes=10_000_000)
        rig.engines[0]._sessions = OnnxEngine(endless, "cpu", threads=1)._sessions
        asked = [Asked(user=f"u{number}") for number in range(3)]
        deployment.submit(asked)
        results = await asyncio.gather(*(one.outcome() for one in asked), return_exceptions=True)
        assert all(isinstance(result, InferenceFailed) for result in results)
        assert 'ranker_runs_ended_total{bundle="tiny@1"} 0.0' not in rig.shown("ranker_runs_ended_total{")
        rig.engines[0]._sessions = sound
        assert await score(deployment)
        assert rig.made == 1  # a run that was stopped is not evidence about the engine


async def test_closing_is_not_a_fault_of_the_workers(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        assert await score(rig.get(OLD))
        await rig.deployments.close()
        assert {line.split()[-1] for line in rig.shown("ranker_task_restarts_total{")} == {"0.0"}


async def test_closing_does_not_wait_for_a_run_that_never_ends(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        rig.get(OLD)._run_seconds = 0.2
        endless = load_bundle(TinyModel(model="endless", trips=2**60).write(tmp_path), max_bytes=10_000_000)
        rig.engines[0]._sessions = OnnxEngine(endless, "cpu", threads=1)._sessions
        waiting = [Asked(user=f"u{number}") for number in range(2)]
        rig.get(OLD).submit(waiting)
        await until(lambda: rig.deployments.live[OLD]._runs.began is not None)
        await rig.deployments.close()
        for asked in waiting:
            with pytest.raises(InferenceFailed):
                await asked.outcome()


async def test_closing_leaves_a_run_that_cannot_be_ended_to_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_module, "_CLOSE_SECONDS", 0.0)
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        rig.get(OLD)._run_seconds = 0.05
        gate = rig.engines[0].gate = Event()
        waiting = [Asked(user=f"u{number}") for number in range(2)]
        rig.get(OLD).submit(waiting)
        await until(lambda: rig.deployments.live[OLD]._runs.began is not None)
        await rig.deployments.close()
        assert not gate.is_set()
        gate.set()
        await asyncio.gather(*(asked.outcome() for asked in waiting), return_exceptions=True)


async def test_closing_answers_what_waits(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        gate = rig.engines[0].gate = Event()
        waiting = [Asked(user=f"u{number}") for number in range(2)]
        rig.get(OLD).submit(waiting)
        late = [Asked(user=f"v{number}") for number in range(2)]  # those wait for the batch before
        rig.get(OLD).submit(late)
        closing = asyncio.create_task(rig.deployments.close())
        await asyncio.sleep(0)
        gate.set()
        await closing
        assert [len((await asked.outcome()).scores) for asked in (*waiting, *late)] == [2] * 4
        assert rig.engines[0].closed
