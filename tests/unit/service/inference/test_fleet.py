"""Bundles are proven before they answer, swapped without loss, and repaired or left out when they break."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from contract.experiments import ExperimentsError
from service.bundles.bundle import Bundle, load_bundle
from service.bundles.registry import BundleRegistry
from service.errors import InferenceFailed
from service.inference import deployment as deployment_module
from service.inference.deployment import Deployment, DeploymentLimits
from service.inference.engine import EngineError, OnnxEngine, ProviderChoice
from service.inference.fleet import Deployments
from service.inference.scorer import RankRow
from service.inference.state_cache import StateCache
from service.metrics import Metrics
from tests.support.builders import TinyModel, behaviours

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]

LIMITS = DeploymentLimits(max_bundle_bytes=10_000_000, provider="cpu", threads=1, warm_up_rows=(1, 4))
OLD, NEW = ("tiny", "1"), ("tiny", "2")


class Faulty(OnnxEngine):
    """The real engine, which breaks and stays broken when told to."""

    def __init__(self, bundle: Bundle, provider: ProviderChoice = "auto", threads: int = 0) -> None:
        super().__init__(bundle, provider, threads)
        self.asked_for = provider
        self.broken = False
        self.closed = False
        self.gate: Event | None = None
        self.delay = 0.0

    def encode(self, inputs: Any) -> dict[str, NDArray[Any]]:
        if self.broken:
            raise EngineError("CUDA failure 700: an illegal memory access was encountered", fatal=True)
        if self.gate is not None:
            self.gate.wait(10)
        return super().encode(inputs)

    def score(self, state: Any, candidates: Any, rows: Any) -> dict[str, NDArray[Any]]:
        time.sleep(self.delay)
        return super().score(state, candidates, rows)

    def close(self) -> None:
        self.closed = True
        super().close()


class Rig:
    """Deployments over a folder, with every engine they made."""

    def __init__(self, root: Path, limits: DeploymentLimits = LIMITS) -> None:
        self.root, self.engines, self.refuse = root, list[Faulty](), False
        self.made = 0
        self.metrics = Metrics()
        self.deployments = Deployments(
            BundleRegistry(root), StateCache(100), limits, self.metrics, release_seconds=0, make_engine=self.make
        )

    def make(self, bundle: Bundle, provider: ProviderChoice, threads: int) -> Faulty:
        self.made += 1
        if self.refuse and provider != "cpu":
            raise EngineError("no device")
        self.engines.append(Faulty(bundle, "cpu", threads))
        self.engines[-1].asked_for = provider
        return self.engines[-1]

    def get(self, model: tuple[str, str]) -> Deployment:
        found = self.deployments.find(*model)
        assert found is not None
        return found

    def shown(self, metric: str) -> list[str]:
        return [line for line in self.metrics.render().decode().splitlines() if line.startswith(metric)]


def row(*candidates: int, user: str = "u") -> RankRow:
    return RankRow(user, behaviours(["i1", "i2"]), np.array(candidates or (1, 2), dtype=np.int64), 0)


def later(seconds: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - another thread makes it true
            await asyncio.sleep(0.001)


@asynccontextmanager
async def rig_of(root: Path, *models: TinyModel, limits: DeploymentLimits = LIMITS) -> AsyncIterator[Rig]:
    for model in models:
        model.write(root)
    rig = Rig(root, limits)
    try:
        yield rig
    finally:
        await rig.deployments.close()


async def test_what_is_prepared_answers(tmp_path: Path) -> None:
    model = TinyModel()
    async with rig_of(tmp_path, model) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        answer = await rig.get(OLD).score(row(3, 4), later())
        assert np.allclose(answer.value.scores, model.expected([1, 2], [3, 4]), atol=1e-6)
        assert answer.queue_seconds >= 0
        info = 'ranker_bundle_info{bundle="tiny@1",model="tiny",provider="cpu",version="1"} 1.0'
        assert rig.shown("ranker_bundle_info{") == [info]
        assert 'ranker_bundle_load_total{result="ok"} 1.0' in rig.shown("ranker_bundle_load_total{")


async def test_nothing_is_served_that_was_not_prepared(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        assert rig.deployments.find("tiny", "1") is None


def altered(directory: Path) -> None:
    path = directory / "score.onnx"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("spoil", ["altered", "golden", "missing"])
async def test_a_bundle_that_fails_leaves_what_was_served_in_place(tmp_path: Path, spoil: str) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        if spoil != "missing":
            directory = TinyModel(version="2", spoilt=frozenset({spoil})).write(tmp_path)
            if spoil == "altered":
                altered(directory)
        with pytest.raises(ExperimentsError, match="tiny@2 cannot be served"):
            await rig.deployments.prepare(frozenset({OLD, NEW}))
        assert list(rig.deployments.live) == [OLD]
        assert await rig.get(OLD).score(row(), later())
        assert 'ranker_bundle_load_total{result="failed"} 1.0' in rig.shown("ranker_bundle_load_total{")


async def test_one_of_two_that_fails_spoils_a_later_file_and_releases_the_other(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(), TinyModel(version="2")) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        with pytest.raises(ExperimentsError, match="tiny@9 cannot be served"):
            await rig.deployments.prepare(frozenset({NEW, ("tiny", "9")}))
        assert list(rig.deployments.live) == [OLD]
        assert [engine.closed for engine in rig.engines] == [False, True]


async def test_at_the_start_a_bundle_that_fails_is_left_out_and_the_others_serve(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        altered(TinyModel(version="2").write(tmp_path))
        await rig.deployments.prepare(frozenset({OLD, NEW}))
        assert list(rig.deployments.live) == [OLD]


async def test_at_the_start_with_nothing_that_serves_there_is_an_error(tmp_path: Path) -> None:
    async with rig_of(tmp_path) as rig:
        with pytest.raises(ExperimentsError, match="tiny@1 cannot be served"):
            await rig.deployments.prepare(frozenset({OLD}))


async def test_a_bundle_made_for_fewer_candidates_than_a_request_may_hold_is_refused(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(), limits=DeploymentLimits(max_candidates=2_001)) as rig:
        with pytest.raises(ExperimentsError, match="made for 2000 candidates, a request may hold 2001"):
            await rig.deployments.prepare(frozenset({OLD}))


async def test_an_engine_that_cannot_be_made_is_a_reason_not_to_serve(tmp_path: Path) -> None:
    limits = DeploymentLimits(provider="cuda", threads=1)
    async with rig_of(tmp_path, TinyModel(), limits=limits) as rig:
        rig.refuse = True
        with pytest.raises(ExperimentsError, match="tiny@1 cannot be served: no device"):
            await rig.deployments.prepare(frozenset({OLD}))
        assert rig.shown("ranker_bundle_info{") == []


async def test_a_swap_in_mid_traffic_loses_nothing_and_mixes_nothing(tmp_path: Path) -> None:
    models = {OLD: TinyModel(), NEW: TinyModel(version="2", offset=1_000)}
    async with rig_of(tmp_path, *models.values()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        current, swaps = OLD, 0
        answers: list[tuple[tuple[str, str], float]] = []

        async def ask(number: int) -> None:
            name = current
            answer = await rig.get(name).score(row(1 + number % 20, user=f"u{number}"), later())
            answers.append((name, float(answer.value.scores[0])))

        tasks = []
        for number in range(300):
            tasks.append(asyncio.create_task(ask(number)))
            if number % 60 == 30:
                target = NEW if current == OLD else OLD
                await rig.deployments.prepare(frozenset({OLD, NEW}))
                current, swaps = target, swaps + 1
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert (len(answers), swaps) == (300, 5)
        assert {name for name, _ in answers} == {OLD, NEW}
        assert all((score > 900) == (name == NEW) for name, score in answers)


async def test_a_bundle_that_is_not_named_any_more_answers_what_waits_and_is_released(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(), TinyModel(version="2")) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        gate = rig.engines[0].gate = Event()
        waiting = [asyncio.create_task(rig.get(OLD).score(row(user=f"u{number}"), later())) for number in range(3)]
        await asyncio.sleep(0)
        await rig.deployments.prepare(frozenset({NEW}))
        await until(lambda: OLD not in rig.deployments.live)
        assert not rig.engines[0].closed
        gate.set()
        assert len([answer.value.scores for answer in await asyncio.gather(*waiting)]) == 3
        await until(lambda: rig.engines[0].closed)
        assert list(rig.deployments.live) == [NEW]
        assert len(rig.shown("ranker_bundle_info{")) == 1


async def test_a_bundle_that_is_named_again_in_time_is_kept(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(), TinyModel(version="2")) as rig:
        await rig.deployments.prepare(frozenset({OLD, NEW}))
        await rig.deployments.prepare(frozenset({NEW}))
        await rig.deployments.prepare(frozenset({OLD, NEW}))
        await until(lambda: not rig.deployments._releasing)
        assert set(rig.deployments.live) == {OLD, NEW}
        assert len(rig.engines) == 2


async def test_many_prepare_the_same_at_once_and_it_is_loaded_once(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        await asyncio.gather(*(rig.deployments.prepare(frozenset({OLD})) for _ in range(10)))
        assert len(rig.engines) == 1


async def test_a_poisoned_request_fails_alone_and_the_engine_stays_in_service(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(poison_candidate=9)) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        requests = [deployment.score(row(9 if number == 2 else 1, user=f"u{number}"), later()) for number in range(5)]
        results = await asyncio.gather(*requests, return_exceptions=True)
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
            await deployment.score(row(), later())
        assert not deployment.is_healthy
        await until(lambda: deployment.is_healthy)
        assert await deployment.score(row(), later())
        assert [engine.closed for engine in rig.engines] == [True, False]
        assert len(rig.shown("ranker_bundle_info{")) == 1


async def test_auto_goes_to_the_cpu_where_its_device_is_gone(tmp_path: Path) -> None:
    limits = DeploymentLimits(provider="auto", threads=1, warm_up_rows=(1,))
    async with rig_of(tmp_path, TinyModel(), limits=limits) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        deployment._rebuild_seconds = (0.0,)
        rig.engines[0].broken = rig.refuse = True
        with pytest.raises(InferenceFailed):
            await deployment.score(row(), later())
        await until(lambda: deployment.is_healthy)
        assert [engine.asked_for for engine in rig.engines] == ["auto", "cpu"]
        assert await deployment.score(row(), later())


async def test_a_run_that_does_not_end_makes_the_bundle_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_module, "_STALL_SECONDS", 0.0)
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        gate = rig.engines[0].gate = Event()
        task = asyncio.create_task(deployment.score(row(), later()))
        await until(lambda: not deployment.is_healthy)
        gate.set()
        assert (await task).value.scores.shape == (2,)
        assert deployment.is_healthy


async def test_a_bundle_that_is_slow_again_and_again_is_avoided_until_it_is_fast(tmp_path: Path) -> None:
    limits = dataclasses.replace(LIMITS, deadline_seconds=0.2)
    async with rig_of(tmp_path, TinyModel(), limits=limits) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        deployment._probe_seconds = (0.0,)
        rig.engines[0].delay = 0.3
        for number in range(3):
            assert not deployment.is_slow
            await deployment.score(row(user=f"u{number}"), later())
        await until(lambda: deployment.is_slow)
        assert rig.shown("ranker_bundle_slow{") == ['ranker_bundle_slow{bundle="tiny@1"} 1.0']
        assert deployment.is_healthy
        rig.engines[0].delay = 0.0
        await until(lambda: not deployment.is_slow)
        assert rig.shown("ranker_bundle_slow{") == ['ranker_bundle_slow{bundle="tiny@1"} 0.0']
        assert await deployment.score(row(), later())


async def test_a_bundle_that_is_slow_again_soon_waits_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = dataclasses.replace(LIMITS, deadline_seconds=0.05)
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds in (5.0, 10.0, 20.0):
            pauses.append(seconds)
            rig.engines[0].delay = 0.0
        await real(min(seconds, 0.001))

    monkeypatch.setattr(deployment_module.asyncio, "sleep", sleep)
    async with rig_of(tmp_path, TinyModel(), limits=limits) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment = rig.get(OLD)
        for _ in range(3):
            rig.engines[0].delay = 0.06
            while not deployment.is_slow:
                await deployment.score(row(), later())
                await real(0)
            await until(lambda: not deployment.is_slow)
        assert pauses == [5.0, 10.0, 20.0]


async def test_a_run_that_never_ends_is_ended_and_the_bundle_answers_again(tmp_path: Path) -> None:
    """The loop in the graph has 2^60 rounds: only ONNX Runtime itself can leave it."""
    limits = dataclasses.replace(LIMITS, run_seconds=0.2)
    async with rig_of(tmp_path, TinyModel(), limits=limits) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        deployment, sound = rig.get(OLD), rig.engines[0]._sessions
        endless = load_bundle(TinyModel(model="endless", trips=2**60).write(tmp_path), max_bytes=10_000_000)
        rig.engines[0]._sessions = OnnxEngine(endless, "cpu", threads=1)._sessions
        results = await asyncio.gather(
            *(deployment.score(row(user=f"u{number}"), later()) for number in range(3)), return_exceptions=True
        )
        assert all(isinstance(result, InferenceFailed) for result in results)
        assert 'ranker_runs_ended_total{bundle="tiny@1"} 0.0' not in rig.shown("ranker_runs_ended_total{")
        rig.engines[0]._sessions = sound
        assert await deployment.score(row(), later())
        assert rig.made == 1  # a run that was ended says nothing about the engine


async def test_closing_is_not_a_fault_of_the_workers(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        assert await rig.get(OLD).score(row(), later())
        await rig.deployments.close()
        assert 'ranker_task_restarts_total{task="batcher"} 0.0' in rig.shown("ranker_task_restarts_total{")


async def test_closing_does_not_wait_for_a_run_that_never_ends(tmp_path: Path) -> None:
    limits = dataclasses.replace(LIMITS, run_seconds=0.2)
    async with rig_of(tmp_path, TinyModel(), limits=limits) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        endless = load_bundle(TinyModel(model="endless", trips=2**60).write(tmp_path), max_bytes=10_000_000)
        rig.engines[0]._sessions = OnnxEngine(endless, "cpu", threads=1)._sessions
        waiting = asyncio.create_task(rig.get(OLD).score(row(), later()))
        await until(lambda: rig.deployments.live[OLD]._run_began is not None)
        await rig.deployments.close()
        with pytest.raises(InferenceFailed):
            await waiting


async def test_closing_leaves_a_run_that_cannot_be_ended_to_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_module, "_CLOSE_SECONDS", 0.0)
    limits = dataclasses.replace(LIMITS, run_seconds=0.05)
    async with rig_of(tmp_path, TinyModel(), limits=limits) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        gate = rig.engines[0].gate = Event()
        waiting = asyncio.create_task(rig.get(OLD).score(row(), later()))
        await until(lambda: rig.deployments.live[OLD]._run_began is not None)
        await rig.deployments.close()
        assert not gate.is_set()
        gate.set()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_refused_bundle_is_not_loaded_again_until_its_files_change(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        directory = TinyModel(version="2").write(tmp_path)
        good = (directory / "score.onnx").read_bytes()
        altered(directory)
        with capture_logs() as lines:
            for _ in range(5):
                with pytest.raises(ExperimentsError, match=r"tiny@2 cannot be served: .*score\.onnx is not the file"):
                    await rig.deployments.prepare(frozenset({OLD, NEW}))
        assert [line["event"] for line in lines] == ["bundle_refused"]
        assert 'ranker_bundle_load_total{result="failed"} 1.0' in rig.shown("ranker_bundle_load_total{")
        (directory / "score.onnx").write_bytes(good)
        await rig.deployments.prepare(frozenset({OLD, NEW}))
        assert set(rig.deployments.live) == {OLD, NEW}


async def test_a_bundle_that_the_machine_may_have_failed_is_tried_again_when_told_to(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        rig.deployments._loader._limits = dataclasses.replace(LIMITS, provider="cuda")
        rig.refuse = True
        for _ in range(3):
            with pytest.raises(ExperimentsError, match="no device"):
                await rig.deployments.prepare(frozenset({OLD}))
        assert rig.made == 1
        rig.refuse = False
        rig.deployments.try_again()
        await rig.deployments.prepare(frozenset({OLD}))
        assert list(rig.deployments.live) == [OLD]


async def test_a_bundle_left_out_at_the_start_is_served_once_its_files_are_mended(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        directory = TinyModel(version="2").write(tmp_path)
        good = (directory / "score.onnx").read_bytes()
        altered(directory)
        await rig.deployments.prepare(frozenset({OLD, NEW}))
        assert list(rig.deployments.live) == [OLD]
        watching = asyncio.create_task(rig.deployments.watch(0.01))
        (directory / "score.onnx").write_bytes(good)
        await until(lambda: NEW in rig.deployments.live)
        watching.cancel()
        assert await rig.get(NEW).score(row(), later())


async def test_a_bundle_whose_table_is_edited_in_place_is_withdrawn_until_it_is_mended(tmp_path: Path) -> None:
    model = TinyModel(version="2", tabled=True)
    async with rig_of(tmp_path, TinyModel(), model) as rig:
        await rig.deployments.prepare(frozenset({OLD, NEW}))
        table = tmp_path / "tiny" / "2" / "table_0.npy"
        good = table.read_bytes()
        watching = asyncio.create_task(rig.deployments.watch(0.01))
        table.write_bytes(good[:-4] + np.float32(9).tobytes())
        os.utime(table, ns=(1, 1))  # a write within the clock's tick of the one before would keep its time
        await until(lambda: NEW not in rig.deployments.live)
        await until(lambda: rig.engines[1].closed)
        assert OLD in rig.deployments.live
        table.write_bytes(good)
        await until(lambda: NEW in rig.deployments.live)
        watching.cancel()
        answer = await rig.get(NEW).score(row(3, 4), later())
        assert np.allclose(answer.value.scores, model.expected([1, 2], [3, 4]), atol=1e-6)


async def test_a_table_that_only_looks_edited_is_loaded_again_and_stays_in_service(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(tabled=True)) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        before = rig.get(OLD)
        watching = asyncio.create_task(rig.deployments.watch(0.01))
        os.utime(tmp_path / "tiny" / "1" / "table_0.npy", ns=(1, 1))
        await until(lambda: rig.deployments.find(*OLD) is not before)
        await until(lambda: rig.engines[0].closed)
        watching.cancel()
        assert await rig.get(OLD).score(row(), later())
        await until(lambda: bool(rig.shown("ranker_bundle_info{")))
        info = 'ranker_bundle_info{bundle="tiny@1",model="tiny",provider="cpu",version="1"} 1.0'
        assert rig.shown("ranker_bundle_info{") == [info]


async def test_a_loading_that_is_cancelled_closes_what_it_has_loaded(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(), TinyModel(version="2")) as rig:
        stuck = asyncio.Event()
        load = rig.deployments._loader.load

        async def load_one(model: tuple[str, str]) -> Any:
            if model == NEW:
                stuck.set()
                await asyncio.Event().wait()
            return await load(model)

        rig.deployments._loader.load = load_one  # type: ignore[method-assign]
        task = asyncio.create_task(rig.deployments.prepare(frozenset({OLD, NEW})))
        await stuck.wait()
        task.cancel()
        await asyncio.wait({task})
        assert rig.deployments.live == {}
        assert [engine.closed for engine in rig.engines] == [True]


async def test_closing_answers_what_waits(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        gate = rig.engines[0].gate = Event()
        tasks = [asyncio.create_task(rig.get(OLD).score(row(user=f"u{number}"), later())) for number in range(4)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(rig.deployments.close())
        await asyncio.sleep(0)
        gate.set()
        await closing
        assert len(await asyncio.gather(*tasks)) == 4
        assert rig.engines[0].closed
