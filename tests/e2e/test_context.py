"""The context of a request through the running service, with Redis: its scores are those of the trained model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from contract.bundle.context import CONTEXT, ContextCoder, RequestFacts
from exporter.export import export_run
from models.checkpoint import load_checkpoint
from tests.contract.conftest import new_items_run
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess
from tests.unit.models.cases import CONTEXT as SPECS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.redis,
    pytest.mark.onnx,
    pytest.mark.usefixtures("operators_read_once"),
]

CANDIDATES = ["film-3", "film-9", "film-20", "film-31"]
HISTORY = [("film-1", 1_700_000_000_000), ("film-7", 1_700_000_600_000)]
NEWEST_MS = HISTORY[-1][1]
HOUR_MS = 3_600_000
FILE = """
schema: 1
revision: context.1
enabled: true
unit: {type: user_id, max_bytes: 128}
overrides: {header_enabled: false, units: {}}
layers:
  - {key: rank, salt: rank, defaults: {model: fmlp, version: "1"}, experiments: []}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("in-context")
    export_run(new_items_run(home / "run", SPECS), home / "bundles")
    (home / "experiments.yaml").write_text(FILE)
    return home


@pytest.fixture
def service(home: Path, own_redis: RedisServer) -> Iterator[ServiceProcess]:
    running = ServiceProcess(home, own_redis.url).start()
    given = [{"user_id": "u", "item_id": item, "ts": ts} for item, ts in HISTORY]
    assert httpx.post(f"{running.url}/behaviours", json={"behaviours": given}, timeout=20).json()["stored"] == 2
    yield running
    running.close()


def answered(service: ServiceProcess, **fields: Any) -> dict[str, Any]:
    body = {"user_id": "u", "candidates": CANDIDATES, "request_time": NEWEST_MS + HOUR_MS, **fields}
    answer = httpx.post(f"{service.url}/rank", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {one["item_id"]: one["score"] for one in answer["items"]}


def by_torch(home: Path, time_ms: int, told: dict[str, Any]) -> dict[str, float]:
    """Return the scores of the trained model itself."""
    _, model = load_checkpoint(home / "run" / "checkpoint")
    items = torch.zeros((1, model.length), dtype=torch.int64)
    items[0, -2:] = torch.tensor([1, 7])  # film-k has index k
    codes = torch.from_numpy(ContextCoder(SPECS).codes([RequestFacts(time_ms, NEWEST_MS, told)]))
    with torch.no_grad():
        state = model.state_of({"items": items, CONTEXT: codes})
        found = model.score_lists(state, torch.tensor([[int(item[5:]) for item in CANDIDATES]]))[0]
    return dict(zip(CANDIDATES, found.tolist(), strict=True))


def test_a_real_request_gets_the_scores_of_the_trained_model_in_its_context(
    service: ServiceProcess, home: Path
) -> None:
    asked: list[tuple[int, dict[str, Any]]] = [
        (1, {"device": "ios"}), (1, {"device": "web"}), (9, {"device": "ios"}),
        (9, {"device": "ios", "tz_offset": 330}), (1, {}), (1, {"device": "fridge"}),
    ]  # fmt: skip
    found = []
    for hours, told in asked:
        time_ms = NEWEST_MS + hours * HOUR_MS
        found.append(scores(answered(service, request_time=time_ms, context=told)))
        assert found[-1] == pytest.approx(by_torch(home, time_ms, told), abs=1e-4)
    assert len({tuple(one[item] for item in CANDIDATES) for one in found[:5]}) == 5
    assert found[5] == found[4]
    text = httpx.get(f"{service.url}/metrics", timeout=20).text
    assert 'ranker_state_cache_total{result="miss"} 1.0' in text
    assert 'ranker_state_cache_total{result="hit"} 5.0' in text
    assert 'ranker_context_values_total{input="device",result="unknown"} 1.0' in text


def test_the_answer_and_the_refusal_name_what_is_wrong(service: ServiceProcess) -> None:
    assert answered(service, context={"device": "ios", "browser": "x"})["ignored_context"] == ["browser"]
    body = {"user_id": "u", "candidates": CANDIDATES, "context": {"device": 1.5}}
    answer = httpx.post(f"{service.url}/rank", json=body, timeout=20)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "context.device")
