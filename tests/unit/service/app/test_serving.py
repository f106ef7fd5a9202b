"""The composition: what starts, what refuses to, and that everything is let go of at the end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from contract.bundle.manifest import MANIFEST, SCORE
from service.app.serving import create_app
from service.errors import StartError
from service.settings.bundles import BundlesSettings
from service.settings.experiments import ExperimentsSettings
from service.settings.inference import InferenceSettings
from service.settings.limits import LimitsSettings
from service.settings.redis import RedisSettings
from service.settings.root import Settings
from service.settings.streams import StreamsSettings
from tests.support.builders import TinyModel
from tests.support.fakes import EXPERIMENTS

pytestmark = [pytest.mark.anyio, pytest.mark.onnx, pytest.mark.usefixtures("warm_proofs")]

BODY = {"user_id": "u1", "candidates": ["i1", "i2"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    TinyModel(model="mgnm").write(tmp_path / "bundles")
    return tmp_path


def settings(root: Path, document: Any = None, **groups: Any) -> Settings:
    file = None
    if document is not None:
        file = root / "experiments.json"
        file.write_text(document if isinstance(document, str) else json.dumps(document))
    patient = LimitsSettings(deadline_ms=30_000, max_deadline_ms=30_000)  # a busy machine is not what is tested here
    return Settings(
        limits=groups.pop("limits", patient),
        redis=RedisSettings(url=SecretStr(f"unix://{root}/nobody.sock")),
        bundles=BundlesSettings(root=root / "bundles"),
        experiments=ExperimentsSettings(file=file),
        inference=InferenceSettings(threads=1, warm_up_rows=(1,)),
        streams=StreamsSettings(close_timeout_ms=0, spool=root / "spool"),
        **groups,
    )


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://edge")


async def ranked(chosen: Settings) -> dict[str, Any]:
    app = create_app(chosen)
    async with app.router.lifespan_context(app), client_of(app) as client:
        answer = await client.post("/rank", json=BODY)
        assert answer.status_code == 200, answer.text
        assert (await client.get("/health/ready")).status_code == 200
        return {**answer.json(), "bucket": answer.headers["x-ab-bucket"]}


async def refusal(chosen: Settings) -> str:
    app = create_app(chosen)
    with pytest.raises(StartError) as caught:
        async with app.router.lifespan_context(app):
            pass
    return str(caught.value)


async def test_one_bundle_and_nothing_else_is_enough(root: Path) -> None:
    answer = await ranked(settings(root))
    assert (answer["model"], answer["degraded"]) == ("mgnm", ["store_unavailable"])
    assert answer["bucket"] == "rank=none;r=unallocated"


async def test_the_default_model_is_chosen_by_its_setting(root: Path) -> None:
    TinyModel(model="sasrec").write(root / "bundles")
    chosen = settings(root).model_copy(
        update={"bundles": BundlesSettings(root=root / "bundles", default_model="sasrec")}
    )
    assert (await ranked(chosen))["model"] == "sasrec"


async def test_the_newest_version_is_served(root: Path) -> None:
    TinyModel(model="mgnm", version="10").write(root / "bundles")
    TinyModel(model="mgnm", version="9").write(root / "bundles")
    assert (await ranked(settings(root)))["version"] == "10"


async def test_an_arm_whose_bundle_is_missing_refuses_to_start(root: Path) -> None:
    said = await refusal(settings(root, EXPERIMENTS))
    assert "cannot be served (not_servable)" in said


async def test_no_bundle_refuses_to_start_and_says_how_to_get_one(tmp_path: Path) -> None:
    said = await refusal(settings(tmp_path))
    assert f"{tmp_path / 'bundles'} contains no bundle" in said
    assert "python -m exporter" in said


async def test_several_models_and_no_choice_refuse_to_start(root: Path) -> None:
    TinyModel(model="sasrec").write(root / "bundles")
    assert "contains mgnm, sasrec: name a model in RANKER_BUNDLES__DEFAULT_MODEL" in await refusal(settings(root))


async def test_an_unknown_default_model_refuses_to_start(root: Path) -> None:
    chosen = settings(root).model_copy(update={"bundles": BundlesSettings(root=root / "bundles", default_model="gone")})
    assert "the default model (RANKER_BUNDLES__DEFAULT_MODEL) cannot be served (not_servable)" in await refusal(chosen)


def newer_contract(directory: Path) -> None:
    file = directory / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"contract_version": 99}))


def altered(directory: Path) -> None:
    content = bytearray((directory / SCORE).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / SCORE).write_bytes(content)


def cut_short(directory: Path) -> None:
    content = (directory / SCORE).read_bytes()
    (directory / SCORE).write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("harm", [newer_contract, altered, cut_short])
async def test_a_bundle_that_is_not_what_it_was_refuses_to_start(root: Path, harm: Any) -> None:
    harm(root / "bundles" / "mgnm" / "1")
    assert "cannot be served (not_servable)" in await refusal(settings(root))


async def test_golden_scores_that_do_not_hold_refuse_to_start(tmp_path: Path) -> None:
    TinyModel(model="mgnm", spoilt=frozenset({"golden"})).write(tmp_path / "bundles")
    assert "cannot be served (not_servable)" in await refusal(settings(tmp_path))


@pytest.mark.parametrize(
    "document",
    [
        "layers: [",
        "",
        "\x00\x01",
        '{"schema": 2}',
        {**EXPERIMENTS, "layerz": []},
        {**EXPERIMENTS, "layers": []},
        "a: &a [x]\nb: *a\n",
    ],
)
async def test_a_bad_experiment_file_refuses_to_start(root: Path, document: Any) -> None:
    said = await refusal(settings(root, document))
    assert said.startswith(f"the experiment file {root / 'experiments.json'} cannot be served (invalid)")


async def test_an_experiment_file_that_is_not_there_refuses_to_start(root: Path) -> None:
    chosen = settings(root).model_copy(update={"experiments": ExperimentsSettings(file=root / "gone.yaml")})
    assert "gone.yaml cannot be served (unreadable)" in await refusal(chosen)


async def test_a_certificate_file_that_is_missing_refuses_to_start_without_showing_the_url(root: Path) -> None:
    url = SecretStr(f"rediss://:hunter2@h/0?ssl_ca_certs={root}/gone.pem")
    said = await refusal(settings(root).model_copy(update={"redis": RedisSettings(url=url)}))
    assert said == "RANKER_REDIS__URL: the TLS files or ciphers cannot be used (FileNotFoundError)"


async def test_everything_is_let_go_of_at_the_end(root: Path) -> None:
    before = set(asyncio.all_tasks())
    chosen = settings(root)
    await ranked(chosen)
    assert set(asyncio.all_tasks()) <= before


async def test_everything_is_let_go_of_where_the_start_fails(root: Path) -> None:
    before = set(asyncio.all_tasks())
    await refusal(settings(root, "layers: ["))
    assert set(asyncio.all_tasks()) <= before


async def test_without_streams_exposures_count_as_dropped_and_feedback_is_refused(root: Path) -> None:
    TinyModel(model="pyramid_mixer").write(root / "bundles")
    document = json.loads(json.dumps(EXPERIMENTS))
    [experiment] = document["layers"][0]["experiments"]
    chosen = settings(root, document).model_copy(update={"streams": StreamsSettings(enabled=False)})
    app = create_app(chosen)
    app.state.runtime.now_ms = lambda: 1_700_000_000_000
    async with app.router.lifespan_context(app), client_of(app) as client:
        await client.post("/rank", json=BODY)
        event = {"user_id": "u1", "item_id": "i1", "action": "play"}
        assert (await client.post("/feedback", json={"feedback": [event]})).status_code == 429
        metrics = (await client.get("/metrics")).text
    assert f'ranker_exposures_dropped_total{{experiment="{experiment["key"]}"' in metrics
    assert "ranker_feedback_dropped_total 1.0" in metrics
