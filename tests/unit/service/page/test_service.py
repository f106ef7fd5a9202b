"""The page of the whole application, with real bundles and a real Redis."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from deploy.experiments import write_current
from service.app.serving import create_app
from service.settings.bundles import BundlesSettings
from service.settings.experiments import ExperimentsSettings
from service.settings.http import HttpSettings
from service.settings.page import PageSettings
from service.settings.redis import RedisSettings
from service.settings.root import Settings
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio


def _settings(folder: Path, redis_url: str, *, enabled: bool) -> Settings:
    for model in ("mgnm", "pyramid_mixer"):
        TinyModel(model=model).write(folder / "bundles")
    write_current(folder / "experiments.yaml")
    return Settings(
        redis=RedisSettings(url=SecretStr(redis_url)),
        bundles=BundlesSettings(root=folder / "bundles"),
        experiments=ExperimentsSettings(file=folder / "experiments.yaml"),
        page=PageSettings(enabled=enabled),
        http=HttpSettings(docs_enabled=True),
    )


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://ranker") as client,
    ):
        yield client


@pytest.mark.redis
@pytest.mark.usefixtures("warm_proofs")
async def test_page_is_off_unless_it_is_switched_on(redis_server: RedisServer, tmp_path: Path) -> None:
    async with _running(_settings(tmp_path, redis_server.url, enabled=False)) as client:
        answers = [await client.get(path) for path in ("/", "/page/app.js", "/page/users")]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(404, "not_found")] * 3


@pytest.mark.redis
@pytest.mark.usefixtures("warm_proofs")
async def test_service_shows_both_models_and_counts_no_exposure(redis_server: RedisServer, tmp_path: Path) -> None:
    async with _running(_settings(tmp_path, redis_server.url, enabled=True)) as client:
        page = await client.get("/")
        answer = await client.post("/page/compare", json={"user_id": "u1", "count": 10})
        metrics = (await client.get("/metrics")).text
        openapi = (await client.get("/openapi.json")).json()
    assert page.headers["x-ab-bucket"] == "rank=none;r=not_ranked"
    assert page.headers.get_list("x-content-type-options") == ["nosniff"]
    rankings = answer.json()["rankings"]
    assert [(one["served"], one["degraded"], one["error"]) for one in rankings] == [
        ("mgnm@1", [], None),
        ("pyramid_mixer@1", [], None),
    ]
    assert [sum(one["own"] for one in rankings), len(rankings[0]["items"])] == [1, 10]
    assert rankings[0]["items"] == sorted(rankings[0]["items"], key=lambda item: -item["score"])
    assert set(rankings[0]["items"][0]["why"]) == {"level"}
    assert set(rankings[0]["explanation"]) == {"period_weights"}
    assert not re.search(r"^ranker_(exposures|assignments)_total\{[^}]*\} [1-9]", metrics, re.MULTILINE)
    assert [path for path in openapi["paths"] if path == "/" or path.startswith("/page")] == []
