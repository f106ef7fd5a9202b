"""The context of a request, from the call to the scores: codes, cache of states, batches, and the trained model."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from contract.bundle import manifest as names
from contract.bundle.context import CONTEXT, ContextCoder, RequestFacts
from contract.bundle.manifest import read_manifest
from models.checkpoint import load_checkpoint
from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.http.answers import RankResponse
from service.http.rank_answer import rank_body
from service.inference.engine import OnnxEngine
from service.ranking.answer import Ranking
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.rankings import World, both_models, call_of, decision_of, world_of

pytestmark = [pytest.mark.anyio, pytest.mark.onnx, pytest.mark.usefixtures("operators_read_once")]

ITEMS = ["film-3", "film-9", "film-20", "film-31", "film-40"]
HISTORY = ["film-1", "film-2", "film-7"]
NEWEST_MS = int(behaviours(HISTORY)["time_ms"][-1])
AT = {"request_time_ms": NEWEST_MS + 5_000}
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def bundles(context_bundle: Path) -> dict[str, Bundle]:
    return {"fmlp": load_bundle(context_bundle, max_bytes=1 << 30)}


async def ranked(world: World, candidates: list[str] = ITEMS, **fields: Any) -> dict[str, float | None]:
    """Return the scores by item."""
    return scores_of(await answered(world, candidates, **fields))


async def answered(world: World, candidates: list[str] = ITEMS, **fields: Any) -> Ranking:
    world.store.users["u1"] = StoredBehaviours(behaviours(HISTORY))
    return await world.ranker.rank(call_of(candidates, decision_of("fmlp"), **{**AT, **fields}))


def scores_of(ranking: Ranking) -> dict[str, float | None]:
    return dict(zip(ranking.item_ids, ranking.scores, strict=True))


def by_torch(run: Path, bundle: Bundle, told: Mapping[str, object], time_ms: int) -> dict[str, float]:
    """Return the scores of the trained model itself for the user's request."""
    _, model = load_checkpoint(run / "checkpoint")
    specs = bundle.manifest.context
    codes = ContextCoder(specs).codes([RequestFacts(time_ms, NEWEST_MS, told)])
    history = [bundle.items.ids.index(item) + 1 for item in HISTORY]
    items = torch.zeros((1, model.length), dtype=torch.int64)
    items[0, -len(history) :] = torch.tensor(history)
    wanted = torch.tensor([[bundle.items.ids.index(item) + 1 for item in ITEMS]])
    with torch.no_grad():
        state = model.state_of({"items": items, CONTEXT: torch.from_numpy(codes)})
        return dict(zip(ITEMS, model.score_lists(state, wanted)[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("told", "hours"),
    [({}, 0.0), ({"device": "ios"}, 0.0), ({"device": "web", "tz_offset": 330}, 7.0), ({"device": "tv"}, 3_000.0)],
)
async def test_the_service_gives_the_scores_of_the_trained_model_in_that_context(
    bundles: dict[str, Bundle], context_bundle: Path, told: dict[str, Any], hours: float
) -> None:
    time_ms = NEWEST_MS + round(hours * HOUR_MS) + 5_000
    async with world_of(bundles) as world:
        scores = await ranked(world, context=told, request_time_ms=time_ms)
    expected = by_torch(context_bundle.parents[2] / "run", bundles["fmlp"], told, time_ms)
    assert scores == pytest.approx(expected, abs=1e-4)


async def test_device_hour_and_gap_change_the_scores_and_one_state_serves_them_all(bundles: dict[str, Bundle]) -> None:
    asked: list[dict[str, Any]] = [
        {"context": {"device": "ios"}},
        {"context": {"device": "web"}},
        {"context": {"device": "ios", "tz_offset": 120}},
        {"context": {"device": "ios"}, "request_time_ms": NEWEST_MS + 24 * HOUR_MS + 5_000},  # same hour, longer gap
    ]
    async with world_of(bundles) as world:
        found = [await ranked(world, **fields) for fields in asked]
        again = [await ranked(world, **fields) for fields in asked]
        assert world.shown('ranker_state_cache_total{result="miss"} 1.0')
        assert world.shown('ranker_state_cache_total{result="hit"} 7.0')
    assert again == found
    values = [tuple(scores[item] for item in ITEMS) for scores in found]
    assert len(set(values)) == len(asked)


async def test_an_explanation_shows_the_context_that_the_model_read_and_its_defaults(
    bundles: dict[str, Bundle],
) -> None:
    hour = AT["request_time_ms"] // HOUR_MS % 24
    async with world_of(bundles) as world:
        told = await explained(world, context={"device": "ios", "tz_offset": 60, "elsewhere": 1})
        other = await explained(world, context={"device": "tv"})
        no_history = await explained(world, user_id="u2")
    assert told == {
        "hour": {"value": (hour + 1) % 24, "code": (hour + 1) % 24 + 1, "result": "known"},
        "gap": {"value": 5, "code": 3, "result": "known"},
        "device": {"value": "ios", "code": 1, "result": "known"},
    }
    assert other["hour"] == {"value": hour, "code": hour + 1, "result": "default"}
    assert other["device"] == {"value": None, "code": 0, "result": "unknown"}
    assert no_history["gap"] == {"value": None, "code": 0, "result": "missing"}
    assert no_history["device"] == {"value": None, "code": 0, "result": "missing"}


async def explained(world: World, **fields: Any) -> dict[str, Any]:
    body = rank_body("r", await answered(world, explain=True, **fields), {})
    RankResponse.model_validate_json(body, strict=True)
    return dict(orjson.loads(body)["explanation"]["context"])


async def test_requests_of_one_user_in_one_batch_have_each_their_own_context(bundles: dict[str, Bundle]) -> None:
    told = [{"device": "ios"}, {"device": "web"}, {}, {"device": "ios", "tz_offset": -60}]
    async with world_of(bundles) as world:
        separate = [await ranked(world, context=one) for one in told]
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(HISTORY))
        calls = [
            call_of(ITEMS, decision_of("fmlp"), context=one, request_id=str(at), **AT) for at, one in enumerate(told)
        ]
        calls.append(call_of(ITEMS[:2], decision_of("fmlp"), user_id="u2", request_id="other", **AT))
        for call in calls:
            call.future = asyncio.get_running_loop().create_future()
            world.ranker.submit(call)
        for call in calls:
            await call.future
        assert world.served["fmlp"].batches[-1] == 5
    together = [scores_of(call.answer) for call in calls[:4] if call.answer is not None]
    assert together == [pytest.approx(one, abs=1e-6) for one in separate]


@pytest.mark.slow
async def test_a_new_item_is_scored_in_the_context_too(new_items_in_context_bundle: Path) -> None:
    features = {"new": {"genres": ["genre 2"], "year": 1995}}
    async with world_of({"fmlp": load_bundle(new_items_in_context_bundle, max_bytes=1 << 30)}) as world:
        first, second = [
            await ranked(world, ["new", "film-3"], features=features, context={"device": device})
            for device in ("ios", "web")
        ]
    assert None not in (*first.values(), *second.values())
    assert first["new"] != second["new"]


async def test_what_a_request_leaves_unknown_is_counted(bundles: dict[str, Bundle]) -> None:
    async with world_of(bundles) as world:
        for told in ({"device": "ios"}, {"device": "fridge"}, {"device": 7}, {}):
            await ranked(world, context=told)
        for result, count in (("known", 1), ("unknown", 2), ("missing", 1)):
            assert world.shown(f'ranker_context_values_total{{input="device",result="{result}"}} {count}.0')


async def test_the_answer_names_what_the_bundle_does_not_read(bundles: dict[str, Bundle]) -> None:
    plain = replace(bundles["fmlp"], context=None)
    async with world_of(bundles) as world:
        ranking = await answered(world, context={"device": "ios", "colour": "red", "tz_offset": 60})
        assert ranking.ignored_context == ("colour",)
        assert orjson.loads(rank_body("r1", ranking, {}))["ignored_context"] == ["colour"]
        silent = orjson.loads(rank_body("r1", await answered(world, context={"device": "ios"}), {}))
        assert "ignored_context" not in silent
    assert plain.unknown_context(3) == {}


async def test_an_interleaved_ranking_reads_the_context_in_both_models(
    bundles: dict[str, Bundle], new_items_bundle: Path
) -> None:
    pair = {"control": bundles["fmlp"], "treatment": load_bundle(new_items_bundle, max_bytes=1 << 30)}
    async with world_of(pair) as world:
        call = call_of(ITEMS, both_models(), context={"device": "ios", "colour": "red"}, **AT)
        ranking = await world.ranker.rank(call)
        assert ranking.merged is not None
        assert ranking.ignored_context == ("colour",)


def test_the_manifest_names_the_inputs_of_the_context(context_bundle: Path, new_items_bundle: Path) -> None:
    manifest = read_manifest(context_bundle)
    assert manifest.contract_version == names.CONTRACT_VERSION == 5
    assert [(spec.name, spec.kind, spec.values) for spec in manifest.context] == [
        ("hour", "hour", ()), ("gap", "gap", ()), ("device", "category", ("ios", "web")),
    ]  # fmt: skip
    assert [(one.name, one.shape) for one in manifest.score.inputs[-2:]] == [
        ("context", ("R", 3)), ("context_rows", ("R",)),
    ]  # fmt: skip
    assert "context" not in json.loads((new_items_bundle / names.MANIFEST).read_text())
    assert "context" in (context_bundle / names.MODEL_CARD).read_text()


def test_a_bundle_whose_golden_context_is_out_of_range_is_refused(context_bundle: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(context_bundle, tmp_path / "fmlp" / "1"))
    with np.load(directory / names.GOLDEN) as stored:
        golden = {name: stored[name] for name in stored.files}
    golden[CONTEXT] = golden[CONTEXT] + 100
    np.savez(directory / names.GOLDEN, **golden)
    document = json.loads((directory / names.MANIFEST).read_text())
    document["files"][names.GOLDEN] = names.digest_of((directory / names.GOLDEN).read_bytes())
    (directory / names.MANIFEST).write_text(json.dumps(document))
    with pytest.raises(BundleError, match="a code of the context or its row is out of range"):
        load_bundle(directory, max_bytes=1 << 30)


def test_golden_scores_hold_at_fixed_shapes_too(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["fmlp"]
    engine = OnnxEngine(bundle, "cpu", binds=True)
    assert engine.capture([1, 4, 16]) == (1, 4, 16)
    assert engine.verify_golden() < 1e-4
    state = engine.encode({name: bundle.golden[f"encode.{name}"] for name in bundle.manifest.sequence.names})
    cached = {name: np.array(state[name]) for name in bundle.manifest.state}
    given = bundle.golden["candidates"], bundle.golden["rows"], bundle.golden_context()
    np.testing.assert_allclose(engine.score(cached, *given)["scores"], bundle.golden["scores"], atol=1e-4)
