"""A real process, a real Redis, real bundles, over HTTP: what a caller gets, and what becomes of it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import http_sf
import httpx
import pytest
import yaml

from contract.events.exposures import Exposure
from contract.experiments.assignment import snapshot_of
from service.http import answers
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

ITEMS = [f"i{number}" for number in range(1, 16)]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def service(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    process = ServiceProcess(
        tmp_path_factory.mktemp("service"),
        redis.url,
        HTTP__BEHAVIOURS_ENABLED="true",
        HTTP__DOCS_ENABLED="true",
        PAGE__ENABLED="true",
    )
    yield process.start()
    process.close()


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


def rank(client: httpx.Client, user_id: str, **fields: object) -> httpx.Response:
    return client.post("/rank", json={"user_id": user_id, "candidates": ITEMS, **fields})


def test_a_caller_gets_a_ranking(client: httpx.Client) -> None:
    answer = rank(client, "u1", explain=True)
    assert answer.status_code == 200
    ranking = answers.RankResponse.model_validate_json(answer.content)
    assert sorted(item.item_id for item in ranking.items) == sorted(ITEMS)
    assert ranking.degraded == []
    scores = [item.score for item in ranking.items]
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    assert answer.headers["x-model"] == f"{ranking.model}@{ranking.version}"
    assert {"store", "queue", "encode", "score", "order", "total"} <= {
        part.partition(";")[0].strip() for part in answer.headers["server-timing"].split(",")
    }
    assert "server" not in answer.headers
    assert "date" not in answer.headers


def test_a_users_clicks_are_read_however_much_else_comes_after_them(client: httpx.Client) -> None:
    """Whole histories over HTTP: 1,500 impressions, then 1,500 clicks on items that no model knows."""
    start_ms = 1_700_000_000_000

    def send(action: str, item: str, count: int, first: int) -> None:
        for begin in range(first, first + count, 500):
            behaviours = [
                {"user_id": "looker", "item_id": item, "ts": start_ms + place, "action": action}
                for place in range(begin, begin + 500)
            ]
            assert client.post("/behaviours", json={"behaviours": behaviours}).json()["stored"] == 500

    clicks = [{"user_id": "looker", "item_id": f"i{place}", "ts": start_ms + place} for place in range(1, 10)]
    assert client.post("/behaviours", json={"behaviours": clicks}).json()["stored"] == 9
    expected = rank(client, "looker").json()["items"]
    send("impression", "i1", 1_500, 1_000)
    send("click", "not-in-the-bundle", 1_500, 10_000)
    answer = rank(client, "looker", explain=True).json()
    assert answer["items"] == expected
    assert answer["degraded"] == []
    assert answer["explanation"]["used"] == 5  # as long as the model's sequence

    fresh = [{"user_id": "fresh", "item_id": "not-in-the-bundle", "ts": start_ms}]
    assert client.post("/behaviours", json={"behaviours": fresh}).json()["stored"] == 1
    assert rank(client, "fresh").json()["degraded"] == ["history_unknown"]


def test_every_users_arm_is_what_the_file_says_and_the_arms_model_answers(
    client: httpx.Client, service: ServiceProcess
) -> None:
    snapshot = snapshot_of(yaml.safe_load(service.experiments.read_text()))
    arms = set()
    for number in range(100):
        answer = rank(client, f"arm-{number}")
        decision = snapshot.decide(f"arm-{number}", {}, time.time_ns() // 1_000_000)
        assert answer.headers["x-ab-bucket"] == decision.header()
        assert answer.headers["x-ab-config"] == f'"{decision.digest}"'
        assert answer.json()["model"] == decision.parameters["model"]
        [(_, (value, _parameters))] = http_sf.parse(answer.headers["x-ab-bucket"].encode(), tltype="dictionary").items()
        arms.add(str(value))
    assert arms == {"pyramid-vs-mgnm:control", "pyramid-vs-mgnm:treatment"}


def test_the_next_ranking_sees_what_was_written(client: httpx.Client) -> None:
    history = ["i3", "i4", "i5"]
    body = {
        "behaviours": [
            {"user_id": "writer", "item_id": item, "ts": 1_700_000_000_000 + n} for n, item in enumerate(history)
        ]
    }
    assert client.post("/behaviours", json=body).json()["stored"] == 3
    assert client.post("/behaviours", json=body).json()["repeated"] == 3
    answer = rank(client, "writer", explain=True)
    assert answer.json()["explanation"]["used"] == 3
    model = TinyModel(model=answer.json()["model"])
    expected = dict(zip(ITEMS, model.expected([3, 4, 5], range(1, 16)).tolist(), strict=True))
    for item in answer.json()["items"]:
        assert item["score"] == pytest.approx(expected[item["item_id"]], abs=1e-5)
    shown = client.get("/behaviours/writer").json()
    assert [behaviour["item_id"] for behaviour in shown["behaviours"]] == history[::-1]


def test_recent_behaviours_rank_as_stored_ones_do_and_are_not_stored(client: httpx.Client) -> None:
    behaviours = [{"item_id": item, "ts": 1_700_000_000_000 + n} for n, item in enumerate(["i3", "i4", "i5"])]
    with_recent = rank(client, "reader", recent=behaviours).json()["items"]
    assert client.get("/behaviours/reader").json()["behaviours"] == []
    assert rank(client, "reader").json()["items"] != with_recent
    client.post("/behaviours", json={"behaviours": [{**behaviour, "user_id": "reader"} for behaviour in behaviours]})
    assert rank(client, "reader").json()["items"] == with_recent
    assert rank(client, "reader", recent=behaviours).json()["items"] == with_recent


def test_corrupt_values_and_keys_of_the_wrong_type_degrade_one_user(
    client: httpx.Client, service: ServiceProcess, redis: RedisServer
) -> None:
    redis.call("SET", "bhv:{corrupt}", b"\xff" * 100)
    redis.call("LPUSH", "bhv:{wrong}", "x")
    for user in ("corrupt", "wrong"):
        answer = rank(client, user)
        assert (answer.status_code, answer.json()["degraded"]) == (200, ["behaviours_corrupt"])
    assert rank(client, "u1").json()["degraded"] == []
    body = {"behaviours": [{"user_id": "wrong", "item_id": "i1", "ts": 1_700_000_000_000}]}
    assert client.post("/behaviours", json=body).json()["refusals"] == [{"index": 0, "reason": "wrong_type"}]


def test_exposures_and_feedback_reach_their_streams(
    client: httpx.Client, service: ServiceProcess, redis: RedisServer
) -> None:
    request_id = rank(client, "exposed").json()["request_id"]
    event = {"user_id": "exposed", "item_id": "i1", "action": "finish", "request_id": request_id, "play_ms": 5}
    assert client.post("/feedback", json={"feedback": [event]}).status_code == 202
    service.until(lambda: request_id.encode() in redis.call("XREVRANGE", "fb:activity:v1", "+", "-"), "feedback")
    service.until(lambda: request_id.encode() in redis.call("XREVRANGE", "ab:exposure:v1", "+", "-"), "exposure")
    reply = redis.call("XREVRANGE", "ab:exposure:v1", "+", "-", "COUNT", "1")
    exposure = Exposure.model_validate_json(reply[reply.index(b"{") : reply.rindex(b"}") + 1])
    assert (exposure.unit, exposure.exp, exposure.outcome) == ("exposed", "pyramid-vs-mgnm", "ok")


def test_what_the_caller_counts_is_what_the_service_counts(client: httpx.Client, service: ServiceProcess) -> None:
    def counted(status: int) -> float:
        return service.metric("ranker_requests_total", route="/rank", status=str(status))

    before = {status: counted(status) for status in (200, 405, 413, 415, 422)}
    for _ in range(7):
        rank(client, "u1")
        rank(client, "u1", colour="blue")
    client.get("/rank")
    client.post("/rank", content=b"{}")
    rank(client, "u1", recent=[{"item_id": "i", "ts": 1_700_000_000_000}] * 501)
    after = {status: counted(status) - before[status] for status in before}
    assert after == {200: 7, 422: 7, 405: 1, 415: 1, 413: 1}


def test_info_names_what_is_served(client: httpx.Client) -> None:
    info = answers.InfoResponse.model_validate(client.get("/info").json())
    assert [(bundle.name, bundle.provider) for bundle in info.bundles] == [
        ("mgnm@1", "cpu"),
        ("pyramid_mixer@1", "cpu"),
    ]


def test_the_page_and_the_docs_are_there(client: httpx.Client) -> None:
    assert "<html" in client.get("/").text
    assert client.get("/docs").status_code == 200
    compared = client.post("/page/compare", json={"user_id": "u1", "count": 5})
    assert len(compared.json()["rankings"]) == 2


def test_every_line_of_the_log_is_json_and_names_no_user(client: httpx.Client, service: ServiceProcess) -> None:
    rank(client, "a-very-private-user")
    refused = client.post("/rank", content=b"\r\n{}\x1b", headers={"X-Request-Id": "x\ty"})
    service.will_log(refused.headers["x-request-id"])
    lines = service.log().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert "a-very-private-user" not in service.log()


def test_a_new_experiment_file_is_taken_up_without_a_restart(client: httpx.Client, service: ServiceProcess) -> None:
    good = service.experiments.read_text()
    document = yaml.safe_load(good)
    document["revision"] = "another"
    digest = rank(client, "u1").headers["x-ab-config"]
    try:
        service.experiments.write_text("layers: [")
        service.send(signal.SIGHUP)
        service.until(lambda: "experiments_rejected" in service.log(), "rejected")
        assert rank(client, "u1").headers["x-ab-config"] == digest
        service.experiments.write_text(yaml.safe_dump(document))
        service.send(signal.SIGHUP)
        service.until(lambda: rank(client, "u1").headers["x-ab-config"] != digest, "reloaded")
        assert client.get("/info").json()["experiments"]["revision"] == "another"
    finally:
        service.experiments.write_text(good)
        service.send(signal.SIGHUP)
        service.until(lambda: rank(client, "u1").headers["x-ab-config"] == digest, "as before")


def test_the_process_never_imports_torch_or_onnx(service: ServiceProcess) -> None:
    maps = Path(f"/proc/{service.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "/torch/" not in maps
    assert "/onnx/" not in maps
