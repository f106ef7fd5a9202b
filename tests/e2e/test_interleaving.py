"""The real service interleaves two real bundles, and its log is enough to draft every list again."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from contract.events.ranking_log import ranking_row
from contract.events.streams import EXPOSURE_STREAM, RANKING_STREAM
from contract.experiments.interleaving import redraft, team_draft
from service.experiments.overrides import sign
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess
from tests.support.streams import stream

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

SECRET = "of-the-test-and-long-enough-for-the-service"
CANDIDATES = [*(f"i{place}" for place in range(1, 13)), "unknown"]
EXPERIMENT = "pyramid-vs-mgnm"
ARMS = ("control", "treatment")
POISON = 18


def rank(service: ServiceProcess, user: str, arm: str = "", **body: object) -> httpx.Response:
    headers = {}
    if arm:
        headers["x-ab-override"] = sign(SECRET, int(time.time()), user, f"rank={EXPERIMENT}:{arm}")
    request = {"user_id": user, "candidates": CANDIDATES, **body}
    answer = httpx.post(f"{service.url}/rank", json=request, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer


def ids(answer: httpx.Response) -> list[str]:
    return [item["item_id"] for item in answer.json()["items"]]


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Any:
    """A service whose only experiment interleaves for all users; the treatment fails on users who met one item."""
    one = ServiceProcess(
        tmp_path, own_redis.url, RANKING_LOG__SHARE="1", PAGE__ENABLED="true", EXPERIMENTS__OVERRIDE_SECRET=SECRET
    )
    for written in (tmp_path / "bundles" / "pyramid_mixer").iterdir():
        for file in written.iterdir():
            file.unlink()
        written.rmdir()
    TinyModel(model="pyramid_mixer", slope=-1.0, poison_item=POISON).write(tmp_path / "bundles")
    document = yaml.safe_load(one.experiments.read_text())
    document["overrides"] = {"header_enabled": True}
    document["layers"][0]["experiments"] = document["layers"][0]["experiments"][:1]
    document["layers"][0]["experiments"][0] |= {"kind": "interleave", "slots": [[0, 10_000]]}
    one.experiments.write_text(yaml.safe_dump(document))
    yield one.start()
    one.close()


def test_the_log_has_the_ranks_of_each_model_and_the_list_is_drafted_from_them(
    service: ServiceProcess, own_redis: RedisServer
) -> None:
    users = [f"u{number}" for number in range(12)]
    met = [
        {"user_id": user, "item_id": f"i{place % 12 + 1}", "ts": 1_700_000_000_000} for place, user in enumerate(users)
    ]
    assert httpx.post(f"{service.url}/behaviours", json={"behaviours": met}, timeout=20).json()["stored"] == 12
    shown, own = {}, {}
    for user in users:
        own[user] = [ids(rank(service, user, arm)) for arm in ARMS]
        for _ in range(2):
            answer = rank(service, user)
            assert answer.headers["x-ab-bucket"].startswith(f"rank={EXPERIMENT}:interleaved;r=split")
            body = answer.json()
            assert (body["model"], body["version"], body["degraded"]) == ("mgnm+pyramid_mixer", "1+1", [])
            assert answer.headers["x-model"] == "mgnm+pyramid_mixer@1+1"
            assert {item["score"] for item in body["items"]} == {None}
            assert [item.get("known") for item in body["items"]] == [None] * 12 + [False]
            assert ids(rank(service, user, limit=5))  # in the log too
            shown[body["request_id"]] = (user, ids(answer))
    assert httpx.get(f"{service.url}/info", timeout=20).json()["experiments"]["digest"]
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    rows = {row["req"]: row for row in map(ranking_row, stream(own_redis, RANKING_STREAM))}
    drafted = 0
    for request_id, row in rows.items():
        is_natural = row["arms"][0]["arm"] == "interleaved"
        assert is_natural != bool(row["arms"][0]["forced"])
        ranks = {item["item"]: item["ranks"] for item in row["items"]}
        assert all((own_ranks is not None) == is_natural for own_ranks in ranks.values())
        if request_id not in shown:
            continue
        user, items = shown[request_id]
        assert (list(ranks), row["unit"]) == (items, user)
        for place in range(2):  # the ranks are the list that an override of the arm shows
            alone = sorted((rank[place], item) for item, rank in ranks.items() if rank[place] is not None)
            assert [item for _, item in alone] == own[user][place][:-1]
        again = redraft(request_id, ranks)
        assert again == team_draft(request_id, own[user][0][:-1], own[user][1][:-1])
        assert [item["item"] for item in row["items"]][:-1] == again.items
        assert [item["team"] for item in row["items"]][:-1] == [
            None if team is None else ARMS[team] for team in again.teams
        ]
        drafted += 1
    assert drafted == 24
    assert {item["team"] for row in rows.values() for item in row["items"]} == {None, *ARMS}
    natural = [one for one in stream(own_redis, EXPOSURE_STREAM) if not one["forced"]]
    assert sorted(one["unit"] for one in natural) == sorted(users)
    assert {(one["exp"], one["arm"], one["armb"], one["model"], one["served_model"]) for one in natural} == {
        (EXPERIMENT, "interleaved", None, "mgnm", "mgnm+pyramid_mixer")
    }


@pytest.mark.slow
def test_a_user_on_whom_one_model_fails_gets_the_other_s_list(service: ServiceProcess, own_redis: RedisServer) -> None:
    met = [{"user_id": "bad", "item_id": f"i{POISON}", "ts": 1_700_000_000_000}]
    assert httpx.post(f"{service.url}/behaviours", json={"behaviours": met}, timeout=20).json()["stored"] == 1
    control = ids(rank(service, "bad", "control"))
    answer = rank(service, "bad")
    assert (ids(answer), answer.headers["x-model"]) == (control, "mgnm@1")
    assert answer.json()["degraded"] == ["bundle_unavailable"]
    assert rank(service, "good").json()["degraded"] == []
    assert httpx.get(service.url, timeout=20).status_code == 200
    page = httpx.post(f"{service.url}/page/compare", json={"user_id": "good", "seed": 1, "count": 5}, timeout=20).json()
    assert page["decision"]["layers"][0]["arm"] == "interleaved"
    assert [(one["served"], one["own"]) for one in page["rankings"]] == [("mgnm@1", True), ("pyramid_mixer@1", True)]
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    [row] = [
        row for row in map(ranking_row, stream(own_redis, RANKING_STREAM)) if row["req"] == answer.json()["request_id"]
    ]
    assert row["outcome"] == "degraded"
    assert all(item["team"] is None and item["ranks"] is None for item in row["items"])
