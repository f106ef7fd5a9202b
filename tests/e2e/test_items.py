"""Features of new items through the running service: stored, in a request, and on another process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.export import export_run
from tests.contract.conftest import new_items_run
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.redis,
    pytest.mark.onnx,
    pytest.mark.usefixtures("operators_read_once"),
]

FEATURES = {"genres": ["genre 2", "genre 4"], "year": 1995}
CANDIDATES = ["film-3", "new-1", "film-9", "new-2"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    export_run(new_items_run(tmp_path / "run"), tmp_path / "bundles")
    (tmp_path / "experiments.yaml").write_text(
        """
schema: 1
revision: new-items.1
enabled: true
unit: {type: user_id, max_bytes: 128}
overrides: {header_enabled: false, units: {}}
layers:
  - {key: rank, salt: rank, defaults: {model: fmlp, version: "1"}, experiments: []}
"""
    )
    return tmp_path


@pytest.fixture
def services(home: Path, own_redis: RedisServer) -> Iterator[list[ServiceProcess]]:
    made = [ServiceProcess(home, own_redis.url).start() for _ in range(2)]
    yield made
    for one in made:
        one.close()


def ranked(service: ServiceProcess, **fields: Any) -> dict[str, Any]:
    answer = httpx.post(f"{service.url}/rank", json={"user_id": "u", "candidates": CANDIDATES, **fields}, timeout=20)
    assert answer.status_code == 200, answer.text
    return {one["item_id"]: one for one in answer.json()["items"]}


def test_stored_features_score_a_new_item_as_those_of_the_request_do(services: list[ServiceProcess]) -> None:
    first, second = services
    before = ranked(first)
    inline = ranked(first, features={"new-1": FEATURES})
    assert before["new-1"] == {"item_id": "new-1", "score": None, "known": False}
    assert inline["new-1"]["known"] == "features"
    assert inline["new-2"]["known"] is False
    assert {item: inline[item] for item in ("film-3", "film-9")} == {
        item: before[item] for item in ("film-3", "film-9")
    }

    stored = httpx.post(f"{first.url}/items", json={"items": [{"item_id": "new-1", "features": FEATURES}]}, timeout=20)
    assert stored.json() == {"stored": 1, "refused": 0, "refusals": []}
    assert ranked(first) == inline
    assert ranked(second) == inline  # its first ranking of the item waits for the features


def test_a_click_on_a_new_item_changes_the_ranking_by_its_features(services: list[ServiceProcess]) -> None:
    first, second = services
    items = [{"item_id": "new-1", "features": FEATURES}, {"item_id": "new-2", "features": {"year": 1999}}]
    httpx.post(f"{first.url}/items", json={"items": items}, timeout=20).raise_for_status()
    click = {"user_id": "u", "item_id": "new-9", "ts": 1_740_000_000_000, "action": "click"}
    httpx.post(f"{first.url}/behaviours", json={"behaviours": [click]}, timeout=20).raise_for_status()
    unmoved = ranked(first)
    httpx.post(
        f"{first.url}/behaviours", json={"behaviours": [{**click, "item_id": "new-1"}]}, timeout=20
    ).raise_for_status()
    moved = ranked(second)
    assert all(moved[item]["score"] != unmoved[item]["score"] for item in ("film-3", "film-9", "new-1", "new-2"))
    assert ranked(first) == moved
    items = [{"item_id": "new-9", "features": FEATURES}]
    httpx.post(f"{first.url}/items", json={"items": items}, timeout=20).raise_for_status()
    assert ranked(first)["film-3"]["score"] != moved["film-3"]["score"]  # features that are stored later are read too
    assert "ranker_new_item_behaviours_total 3.0" in httpx.get(f"{first.url}/metrics", timeout=20).text
