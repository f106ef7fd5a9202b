"""Bundles are proven before they answer, and swapped without loss."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import weakref
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from contract.experiments.problems import ExperimentsError
from service.inference.deployment import Deployment
from service.inference.inline import InlineRuns
from tests.support.builders import TinyModel
from tests.support.deployments import NEW, OLD, Asked, rig_of, score, settings_of
from tests.support.signing import Signer
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]


def run_in_threads(deployment: Deployment, does: bool) -> None:
    """Let a deployment run every batch in the inference threads, as on a GPU."""
    if does:
        deployment._inline = InlineRuns(is_possible=False)


async def test_what_is_prepared_answers(tmp_path: Path) -> None:
    model = TinyModel()
    async with rig_of(tmp_path, model) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        asked = Asked(3, 4)
        rig.get(OLD).submit([asked])
        assert np.allclose((await asked.outcome()).scores, model.expected([1, 2], [3, 4]), atol=1e-6)
        assert asked.waited >= 0
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
        assert await score(rig.get(OLD))
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
    async with rig_of(tmp_path, TinyModel(), settings=settings_of(limits={"max_candidates": 2_001})) as rig:
        with pytest.raises(ExperimentsError, match="made for 2000 candidates, a request may hold 2001"):
            await rig.deployments.prepare(frozenset({OLD}))


async def test_an_engine_that_cannot_be_made_is_a_reason_not_to_serve(tmp_path: Path) -> None:
    settings = settings_of(inference={"provider": "cuda"})
    async with rig_of(tmp_path, TinyModel(), settings=settings) as rig:
        rig.refuse = True
        with pytest.raises(ExperimentsError, match="tiny@1 cannot be served: no device"):
            await rig.deployments.prepare(frozenset({OLD}))
        assert rig.shown("ranker_bundle_info{") == []


@pytest.mark.parametrize("is_inline", [True, False], ids=["on the event loop", "in threads"])
async def test_a_swap_in_mid_traffic_loses_nothing_and_mixes_nothing(tmp_path: Path, is_inline: bool) -> None:
    models = {OLD: TinyModel(), NEW: TinyModel(version="2", offset=1_000)}
    async with rig_of(tmp_path, *models.values()) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        run_in_threads(rig.get(OLD), not is_inline)
        current, swaps = OLD, 0
        answers: list[tuple[tuple[str, str], float]] = []

        async def ask(number: int) -> None:
            name = current
            scored = await score(rig.get(name), 1 + number % 20, user=f"u{number}")
            answers.append((name, float(scored.scores[0])))

        tasks = []
        for number in range(300):
            tasks.append(asyncio.create_task(ask(number)))
            if number % 60 == 30:
                target = NEW if current == OLD else OLD
                await rig.deployments.prepare(frozenset({OLD, NEW}))
                run_in_threads(rig.get(target), not is_inline)
                current, swaps = target, swaps + 1
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert (len(answers), swaps) == (300, 5)
        assert {name for name, _ in answers} == {OLD, NEW}
        assert all((score > 900) == (name == NEW) for name, score in answers)


@pytest.mark.parametrize("left", [{NEW}, {OLD, NEW}])
async def test_a_bundle_that_is_not_named_any_more_answers_what_waits_and_is_released(
    tmp_path: Path, left: set[tuple[str, str]]
) -> None:
    """If it is loaded again before that, it stays in the metrics."""
    async with rig_of(tmp_path, TinyModel(), TinyModel(version="2")) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        gate = rig.engines[0].gate = Event()
        waiting = [Asked(user=f"u{number}") for number in range(3)]
        rig.get(OLD).submit(waiting)
        await rig.deployments.prepare(frozenset({NEW}))
        await until(lambda: OLD not in rig.deployments.live)
        await rig.deployments.prepare(frozenset(left))
        assert not rig.engines[0].closed
        gate.set()
        assert [len((await asked.outcome()).scores) for asked in waiting] == [2, 2, 2]
        await until(lambda: not rig.deployments._releasing)
        assert rig.engines[0].closed
        assert set(rig.deployments.live) == left
        for name in ("ranker_bundle_info{", "ranker_bundle_slow{"):
            assert sorted(line.split('"')[1] for line in rig.shown(name)) == sorted(map("@".join, left))


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


async def test_an_unsigned_bundle_is_refused_counted_and_served_once_its_signer_is_known(tmp_path: Path) -> None:
    signer, keys = Signer.make(tmp_path / "private"), tmp_path / "keys"
    Signer.make(keys, "first")
    (keys / "first").unlink()
    async with rig_of(tmp_path, TinyModel()) as rig:
        signer.sign(tmp_path / "tiny" / "1")
        rig.deployments._loader._settings = settings_of(bundles={"signers": keys})
        with capture_logs() as lines:
            for _ in range(3):
                with pytest.raises(ExperimentsError, match=r"tiny@1 cannot be served: .*not a key of bundles\.signers"):
                    await rig.deployments.prepare(frozenset({OLD}))
        assert [line["event"] for line in lines] == ["bundle_refused"]
        assert 'ranker_bundle_load_total{result="untrusted"} 1.0' in rig.shown("ranker_bundle_load_total{")
        shutil.copy(signer.public, keys / "second.pub")
        await rig.deployments.prepare(frozenset({OLD}))
        assert list(rig.deployments.live) == [OLD]


async def test_a_bundle_that_the_machine_may_have_failed_is_tried_again_when_told_to(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel()) as rig:
        rig.deployments._loader._settings = settings_of(inference={"provider": "cuda"})
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
        assert await score(rig.get(NEW))


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
        scored = await score(rig.get(NEW), 3, 4)
        assert np.allclose(scored.scores, model.expected([1, 2], [3, 4]), atol=1e-6)


async def test_a_table_that_only_looks_edited_is_loaded_again_and_stays_in_service(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(tabled=True)) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        before = rig.get(OLD)
        watching = asyncio.create_task(rig.deployments.watch(0.01))
        os.utime(tmp_path / "tiny" / "1" / "table_0.npy", ns=(1, 1))
        await until(lambda: rig.deployments.find(*OLD) is not before)
        await until(lambda: rig.engines[0].closed)
        watching.cancel()
        assert await score(rig.get(OLD))
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


async def test_a_released_bundle_leaves_memory_though_the_collector_rests(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(), TinyModel(version="2")) as rig:
        gc.disable()
        try:
            await rig.deployments.prepare(frozenset({OLD}))
            await score(rig.get(OLD), 1, 2)
            is_there = weakref.ref(rig.get(OLD))
            await rig.deployments.prepare(frozenset({NEW}))
            await until(lambda: is_there() is None)
        finally:
            gc.enable()
