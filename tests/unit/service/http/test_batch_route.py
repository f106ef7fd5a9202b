"""Many rankings in one request: each is as POST /rank would answer it, and none harms another."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from service.errors import InferenceFailed
from service.http import answers
from service.ranking.call import AwaitedCall
from service.settings.limits import LimitsSettings
from service.settings.root import Settings
from tests.support.fakes import Edge

pytestmark = pytest.mark.anyio

ITEMS = ["i1", "i2", "new1"]
BAD: dict[str, Any] = {
    "no candidates": {"user_id": "u1", "candidates": []},
    "no user": {"candidates": ITEMS},
    "an unknown field": {"user_id": "u1", "candidates": ITEMS, "x": 1},
    "a number": 7,
    "null": None,
    "too many candidates": {"user_id": "u1", "candidates": ["i1"] * 2_001},
    "a blank": {"user_id": "u1", "candidates": [" i1"]},
}


def ranking(user_id: str, **fields: Any) -> dict[str, Any]:
    return {"user_id": user_id, "candidates": ITEMS, **fields}


async def send(edge: Edge, rankings: list[Any], headers: dict[str, str] | None = None, **fields: Any) -> Any:
    async with edge.client() as client:
        body = {"rankings": rankings, "shown": False, **fields}
        return await client.post("/rank/batch", json=body, headers=headers)


async def test_every_ranking_is_what_the_route_of_one_answers(edge: Edge) -> None:
    wanted = [ranking(f"u{number}", limit=2) for number in range(20)]
    answer = await send(edge, wanted)
    assert answer.status_code == 200
    parsed = answers.RankBatchResponse.model_validate_json(answer.content, strict=True)
    assert answer.headers["x-ab-bucket"].endswith("r=not_ranked")
    assert answer.headers["cache-control"] == "private, no-store"
    async with edge.client() as client:
        for one, result in zip(wanted, parsed.results, strict=True):
            alone = await client.post("/rank", json=one)
            assert result.bucket == alone.headers["x-ab-bucket"]
            assert f'"{result.config}"' == alone.headers["x-ab-config"]
            found = json.loads(answer.content)["results"][parsed.results.index(result)]["ranking"]
            assert found | {"request_id": ""} == alone.json() | {"request_id": ""}
    ids = [result.ranking.request_id for result in parsed.results if result.ranking]
    assert len(set(ids)) == 20


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_ranking_is_refused_by_itself(edge: Edge, name: str) -> None:
    answer = await send(edge, [ranking("u1"), BAD[name], ranking("u2")])
    assert answer.status_code == 200
    first, refused, last = answer.json()["results"]
    assert first["status"] == last["status"] == 200
    async with edge.client() as client:
        content, headers = json.dumps(BAD[name]), {"content-type": "application/json"}
        alone = await client.post("/rank", content=content, headers=headers)
    assert refused["status"] == alone.status_code
    assert refused["error"] | {"request_id": ""} == alone.json()["error"] | {"request_id": ""}
    assert refused["bucket"] == alone.headers["x-ab-bucket"]


async def test_a_ranking_that_fails_fails_alone(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = edge.ranker.rank

    async def rank(call: AwaitedCall) -> Any:
        if call.user_id == "poison":
            raise InferenceFailed
        if call.user_id == "bug":
            raise ZeroDivisionError
        return await usual(call)

    monkeypatch.setattr(edge.ranker, "rank", rank)
    answer = await send(edge, [ranking("u1"), ranking("poison"), ranking("bug"), ranking("u2")])
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [200, 500, 500, 200]
    assert [result["error"]["code"] for result in results[1:3]] == ["inference_failed", "internal_error"]
    assert edge.runtime.admission.rankings.inside == 0


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"rankings": [ranking("u1")]}, 422, "shown"),
        ({"rankings": [ranking("u1")], "shown": 1}, 422, "shown"),
        ({"rankings": [], "shown": True}, 422, "rankings"),
        ({"rankings": {}, "shown": True}, 422, "rankings"),
        ({"shown": True}, 422, "rankings"),
        ({"rankings": [ranking("u1")], "shown": True, "x": 1}, 422, "x"),
        ({"rankings": [ranking("u1")] * 101, "shown": True}, 413, "rankings"),
        ({"rankings": [ranking("u1", candidates=["i1"] * 2_000)] * 11, "shown": True}, 413, "rankings"),
    ],
)
async def test_a_request_that_is_no_list_of_rankings_is_refused_as_a_whole(
    edge: Edge, body: Any, status: int, field: str
) -> None:
    async with edge.client() as client:
        answer = await client.post("/rank/batch", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
    assert edge.ranker.asked == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400), (b"{", 400), (b"[]", 422), (b"\xff", 400), (b"[" * 100_000, 400),
        (b'{"rankings":[{"user_id":"\xff"}],"shown":true', 400),
        (b'{"rankings":[' + b"[" * 100_000 + b'],"shown":true}', 400),
    ],
    ids=range(7),
)  # fmt: skip
async def test_bytes_that_are_no_json_are_refused(edge: Edge, content: bytes, status: int) -> None:
    async with edge.client() as client:
        answer = await client.post("/rank/batch", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status


async def test_only_rankings_that_users_see_are_counted_by_the_experiments(edge: Edge) -> None:
    await send(edge, [ranking("u1")], shown=False)
    await send(edge, [ranking("u1")], shown=True)
    assert [call.is_shown for call in edge.ranker.asked] == [False, True]


async def test_a_few_are_ranked_at_a_time_and_each_takes_a_place(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, usual = [], edge.ranker.rank

    async def rank(call: AwaitedCall) -> Any:
        inside.append(edge.runtime.admission.rankings.inside)
        await asyncio.sleep(0)
        return await usual(call)

    monkeypatch.setattr(edge.ranker, "rank", rank)
    assert (await send(edge, [ranking(f"u{number}") for number in range(100)])).status_code == 200
    assert len(inside) == 100
    assert 1 < max(inside) <= 8
    assert edge.runtime.admission.rankings.inside == 0


async def test_a_full_service_refuses_what_is_left_when_the_deadline_comes(edge: Edge) -> None:
    gate = edge.runtime.admission.rankings
    entered = 0
    while gate.enter():
        entered += 1
    try:
        answer = await send(edge, [ranking("u1"), BAD["no user"]], {"x-deadline-ms": "30"})
    finally:
        for _ in range(entered):
            gate.leave(0.0)
    assert [result["status"] for result in answer.json()["results"]] == [429, 422]
    assert (await send(edge, [ranking("u1")])).json()["results"][0]["status"] == 200


async def test_one_batch_too_many_is_refused_unread() -> None:
    edge = Edge(settings=Settings(limits=LimitsSettings(max_batches=1)))
    [gate] = [edge.runtime.admission.writes["/rank/batch"]]
    assert gate.enter()
    answer = await send(edge, [ranking("u1")])
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    async with edge.client() as client:
        assert (await client.post("/rank", json=ranking("u1"))).status_code == 200
