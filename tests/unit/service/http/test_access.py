"""Who may call which route, and what the others get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import http_sf
import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter

from service.access.scopes import OPEN, scope_of
from service.http.api import make_api
from service.page.routes import page_router
from service.settings.access import AccessSettings
from service.settings.http import HttpSettings
from tests.support.access import SCOPES, KeyedEdge, bearer, entry, key_of
from tests.support.fakes import PATIENT, Edge
from tests.support.ports import post, serving
from tests.support.raw_http import RawAnswer, RawConnection

pytestmark = pytest.mark.anyio

RANKING = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}
SETTINGS = PATIENT.model_copy(
    update={"http": HttpSettings(behaviours_enabled=True, cors_origins=("https://feed.example",))}
)
METHODS = ("GET", "POST", "DELETE")
KINDS: dict[str, dict[str, str]] = {
    "no key": {},
    "unknown key": bearer("stranger"),
    "another scheme": {"Authorization": f"Basic {key_of('all')}"},
    **{scope: bearer(scope) for scope in SCOPES},
    "all": bearer("all"),
}


@pytest.fixture(scope="module")
def keyed() -> KeyedEdge:
    edge = KeyedEdge(SETTINGS)
    edge.app.include_router(page_router(lambda _: None))  # type: ignore[arg-type,return-value]  # no one opens it
    return edge


def paths(app: FastAPI | APIRouter) -> Iterator[str]:
    """Every path of the application, however it was included."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            yield route.path
        else:  # FastAPI keeps an included router as one route
            yield from paths(route.original_router)  # type: ignore[attr-defined]


def expected(kind: str, path: str) -> int | None:
    """Return the status of a refusal; None: the route answers."""
    if path in OPEN:
        return None
    if kind in {"no key", "unknown key", "another scheme"}:
        return 401
    includes = path == "/metrics" and kind == "admin"
    return None if kind == "all" or kind == scope_of(path) or includes else 403


async def test_every_caller_gets_its_scope_of_every_route_with_every_method_and_no_more(keyed: KeyedEdge) -> None:
    cells = Counter[str]()
    wrong = []
    async with keyed.client() as client:
        for path in sorted(set(paths(keyed.app))):
            assert path in OPEN or scope_of(path) is not None, f"{path} is in no scope: service/access/scopes.py"
            for kind, headers in KINDS.items():
                for method in METHODS:
                    answer = await client.request(method, path.replace("{user_id:path}", "u1"), headers=headers)
                    status = answer.status_code if answer.status_code in {401, 403} else None
                    cells[kind] += 1
                    if status != expected(kind, path):
                        wrong.append((kind, method, path, answer.status_code))
    assert wrong == []
    assert cells.total() >= 300


async def test_a_path_that_does_not_exist_is_told_only_to_those_with_a_key(keyed: KeyedEdge) -> None:
    """A router's pattern may match more than the path that it is written for, such as a line feed at its end."""
    async with keyed.client() as client:
        for path in (
            "/nothing",
            "/rank/",
            "/Rank",
            "/rank%2f",
            "/metrics/",
            "/health/live/",
            "/metrics%0A",
            "/rank%0a",
        ):
            assert (await client.get(path)).status_code == 401, path
            assert (await client.get(path, headers=bearer("rank"))).status_code == 404, path


async def test_a_request_without_a_key_learns_what_to_send(keyed: KeyedEdge) -> None:
    async with keyed.client() as client:
        none, unknown, basic = [
            await client.post("/rank", json=RANKING, headers=KINDS[kind]) for kind in list(KINDS)[:3]
        ]
        double = await client.post(
            "/rank", json=RANKING, headers=[*bearer("all").items(), *bearer("rank").items()]
        )  # fmt: skip
    assert none.headers["www-authenticate"] == 'Bearer realm="ranker"'
    assert "Authorization: Bearer <key>" in none.json()["error"]["message"]
    assert unknown.headers["www-authenticate"] == 'Bearer realm="ranker", error="invalid_token"'
    assert unknown.json()["error"]["message"] == "The API key is not known."
    assert basic.headers["www-authenticate"] == 'Bearer realm="ranker", error="invalid_request"'
    assert double.json()["error"]["message"] == basic.json()["error"]["message"]
    assert {one.json()["error"]["code"] for one in (none, unknown, basic, double)} == {"unauthorized"}
    assert all(one.headers["x-ab-bucket"].startswith("rank=none") for one in (none, unknown, basic))
    assert key_of("stranger") not in unknown.text


async def test_a_wrong_scope_is_named(keyed: KeyedEdge) -> None:
    async with keyed.client() as client:
        answer = await client.get("/behaviours/u1", headers=bearer("write"))
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "The API key lacks the scope `read-history`."
    assert 'error="insufficient_scope", scope="read-history"' in answer.headers["www-authenticate"]


async def test_a_browser_asks_for_permission_without_a_key_and_is_told_to_send_one(keyed: KeyedEdge) -> None:
    asked = {"Origin": "https://feed.example", "Access-Control-Request-Method": "POST"}
    async with keyed.client() as client:
        answer = await client.options("/rank", headers=asked)
        other = await client.options("/rank", headers={**asked, "Origin": "https://other.example"})
    assert answer.status_code == 204
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert other.status_code == 401


@pytest.mark.parametrize(("needs_keys", "status"), [(True, 401), (False, 200)])
async def test_the_port_of_operators_needs_keys_unless_the_network_protects_it(needs_keys: bool, status: int) -> None:
    settings = SETTINGS.model_copy(update={"access": AccessSettings(on_admin_port=needs_keys)})
    edge = KeyedEdge(settings)
    statuses = {}
    for part in ("callers", "operators"):
        transport = httpx.ASGITransport(make_api(edge.runtime, part))  # type: ignore[arg-type]  # one of its literals
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            statuses[part] = [
                (await client.get("/info")).status_code,
                (await client.get("/info", headers=bearer("admin"))).status_code,
                (await client.post("/rank", json=RANKING)).status_code,
            ]
    assert statuses == {"callers": [401, 404, 401], "operators": [status, 200, 401 if needs_keys else 404]}


async def test_without_an_access_file_no_key_is_needed_and_none_is_looked_at(edge: Edge) -> None:
    async with edge.client() as client:
        for headers in ({}, bearer("stranger")):
            answer = await client.post("/rank", json=RANKING, headers=headers)
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers
    assert edge.samples("ranker_caller_requests_total") == {}


def limits(answer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return policies and limits of an answer by name, parsed as structured fields."""
    found = []
    for name in ("ratelimit-policy", "ratelimit"):
        items = http_sf.parse(answer.headers[name].encode(), tltype="list")
        found.append({str(value): parameters for value, parameters in items})
    return found[0], found[1]


async def test_a_caller_over_its_quota_is_told_when_to_come_back_and_others_are_served() -> None:
    edge = KeyedEdge(
        PATIENT, entry("greedy", "rank", requests_per_second=0.01),
        entry("good", "rank", requests_per_second=0.1, burst_seconds=60),
    )  # fmt: skip
    async with edge.client() as client:
        first, second = [await client.post("/rank", json=RANKING, headers=bearer("greedy")) for _ in range(2)]
        good = await client.post("/rank", json=RANKING, headers=bearer("good"))
    assert [first.status_code, second.status_code, good.status_code] == [200, 429, 200]
    assert second.json()["error"]["code"] == "over_quota"
    assert "requests" in second.json()["error"]["message"]
    policy, left = limits(second)
    assert policy == {"requests": {"q": 1, "w": 100}}
    assert left["requests"]["r"] == 0
    assert 70 < int(second.headers["retry-after"]) <= left["requests"]["t"] <= 100
    policy, left = limits(good)
    assert policy == {"requests": {"q": 6, "w": 60}}
    assert left["requests"]["r"] == 5
    assert 0 < left["requests"]["t"] <= 10
    counted = edge.samples("ranker_caller_requests_total")
    assert counted['{caller="greedy",outcome="answered"}'] == counted['{caller="greedy",outcome="over_quota"}'] == 1
    assert counted['{caller="good",outcome="answered"}'] == 1


async def test_candidates_are_counted_after_the_ranking_and_refused_before_the_next() -> None:
    edge = KeyedEdge(PATIENT, entry("feed", "rank", "write", candidates_per_second=1, burst_seconds=2))
    async with edge.client() as client:
        first, second = [await client.post("/rank", json=RANKING, headers=bearer("feed")) for _ in range(2)]
    assert [first.status_code, second.status_code] == [200, 429]
    policy, left = limits(second)
    assert policy == {"candidates": {"q": 2, "qu": "candidates", "w": 2}}
    assert left["candidates"]["r"] == 0
    assert "candidates" in second.json()["error"]["message"]
    assert len(edge.ranker.asked) == 1


async def test_refusals_are_counted_by_what_they_are(keyed: KeyedEdge) -> None:
    keyed.metrics._of_callers.clear()
    before = keyed.samples("ranker_caller_requests_total")
    async with keyed.client() as client:
        await client.get("/info", headers=bearer("rank"))
        await client.get("/info")
        await client.post("/rank", content=b"{", headers={**bearer("rank"), "content-type": "application/json"})
        await client.get("/health/live")
    after = keyed.samples("ranker_caller_requests_total")
    assert {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)} == {
        '{caller="rank",outcome="forbidden"}': 1,
        '{caller="none",outcome="unauthorized"}': 1,
        '{caller="rank",outcome="refused"}': 1,
    }


async def asked(connection: RawConnection, request: bytes) -> RawAnswer:
    connection.send(request)
    answer = await connection.answer()
    assert answer is not None
    return answer


async def test_the_short_way_of_rankings_knows_keys_quotas_and_their_end() -> None:
    """A head that the connection knows by heart is refused when its key is no longer in force."""
    edge = KeyedEdge(PATIENT, entry("feed", "rank", requests_per_second=5), entry("reader", "admin"))
    feed, reader, stranger = [f"Authorization: Bearer {key_of(one)}".encode() for one in ("feed", "reader", "stranger")]
    async with serving(edge) as port:
        connection = await port.connect()
        answers = []
        for _ in range(6):
            answers.append(await asked(connection, post(feed)))
        assert [one.status for one in answers] == [200] * 5 + [429]
        left = [http_sf.parse(one.header(b"ratelimit")[0], tltype="list")[0][1]["r"] for one in answers]
        assert left[:5] == [4, 3, 2, 1, 0]
        for line, status in ((stranger, 401), (reader, 403), (b"X: y", 401)):
            assert (await asked(connection, post(line))).status == status
        edge.put(entry("feed", "rank", keys=("other",)))
        assert (await asked(connection, post(feed))).status == 401
        edge.put(entry("feed", "write"))
        assert (await asked(connection, post(feed))).status == 403
        await connection.close()
    assert port.count("ranker_caller_requests_total", '{caller="feed",outcome="answered"}') == 5
    assert port.count("ranker_caller_requests_total", '{caller="feed",outcome="over_quota"}') == 1


async def test_a_caller_with_few_rankings_is_let_into_a_gate_that_another_one_has_filled() -> None:
    edge = KeyedEdge(PATIENT, entry("greedy", "rank"), entry("good", "rank"))
    assert edge.runtime.keys is not None
    greedy = edge.runtime.keys.allowed([(b"authorization", f"Bearer {key_of('greedy')}".encode())], "rank")
    assert greedy is not None
    while greedy.caller.rankings.enter():
        pass
    expected = {"greedy": 429, "good": 200}
    async with edge.client() as client:
        answers = {name: (await client.post("/rank", json=RANKING, headers=bearer(name))) for name in expected}
    assert {name: answer.status_code for name, answer in answers.items()} == expected
    assert answers["greedy"].json()["error"]["code"] == "overloaded"
    async with serving(edge) as port:  # the same on the short way, with a head that is not known yet and one that is
        connection = await port.connect()
        for name in [*expected, *expected]:
            line = b"Authorization: Bearer " + key_of(name).encode()
            assert (await asked(connection, post(line))).status == expected[name]
        await connection.close()
    assert edge.runtime.admission.rankings.inside == 48


async def test_a_full_service_tells_the_caller_apart_from_one_over_its_quota() -> None:
    edge = KeyedEdge()
    gate = edge.runtime.admission.rankings
    while gate.enter():
        pass
    async with serving(edge) as port:
        connection = await port.connect()
        for _ in range(2):  # the first one is parsed, the second one is known
            answer = await asked(connection, post(b"Authorization: Bearer " + key_of("rank").encode()))
            assert b'"overloaded"' in answer.body
        await connection.close()
    assert port.count("ranker_caller_requests_total", '{caller="rank",outcome="overloaded"}') == 2
