"""The routes over ASGI, with fakes behind them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded, RankerError
from service.experiments.overrides import sign
from service.http import answers
from service.settings.http import HttpSettings
from service.settings.limits import LimitsSettings
from service.settings.root import Settings
from tests.support.builders import behaviours
from tests.support.fakes import NOW_MS, Edge

pytestmark = pytest.mark.anyio

BEHAVIOUR = {"user_id": "u1", "item_id": "i1", "ts": NOW_MS - 1}


async def rank(edge: Edge, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    async with edge.client() as client:
        body = {"user_id": "u1", "candidates": ["i1", "i2", "new1", "i3"], **fields}
        return await client.post("/rank", json=body, headers=headers)


async def test_a_ranking_is_as_its_schema_says(edge: Edge) -> None:
    answer = await rank(edge)
    assert answer.status_code == 200
    parsed = answers.RankResponse.model_validate_json(answer.content, strict=True)
    assert [item.item_id for item in parsed.items] == ["i3", "i2", "i1", "new1"]
    assert answer.json()["items"][-1] == {"item_id": "new1", "score": None, "known": False}
    assert "known" not in answer.json()["items"][0]
    assert answer.json()["degraded"] == []
    assert "explanation" not in answer.json()


async def test_a_ranking_has_its_headers(edge: Edge) -> None:
    answer = await rank(edge)
    headers = answer.headers
    assert headers["x-request-id"] == answer.json()["request_id"]
    assert headers["x-ab-bucket"].startswith("rank=pyramid-vs-mgnm:")
    assert ";b=" in headers["x-ab-bucket"]
    assert headers["x-ab-bucket"].endswith(";r=split")
    snapshot = edge.experiments.snapshot
    assert snapshot is not None
    assert headers["x-ab-config"] == f'"{snapshot.digest}"'
    assert headers["x-model"] == f"{answer.json()['model']}@1"
    assert headers["server-timing"] == "store;dur=0.600, queue;dur=0.200, total;dur=2.900"
    assert headers["cache-control"] == "private, no-store"


async def test_the_same_request_gets_the_same_order(edge: Edge) -> None:
    assert (await rank(edge)).json()["items"] == (await rank(edge)).json()["items"]


async def test_limit_and_explain_are_passed_on(edge: Edge) -> None:
    answer = await rank(edge, limit=2, explain=True)
    parsed = answers.RankResponse.model_validate_json(answer.content)
    assert len(parsed.items) == 2
    assert parsed.explanation is not None
    assert parsed.explanation.user == {"period_weights": [0.2, 0.3, 0.5]}


async def test_recent_behaviours_become_records(edge: Edge) -> None:
    await rank(
        edge,
        recent=[
            {"item_id": "i7", "ts": NOW_MS - 5},
            {"item_id": "i8", "ts": NOW_MS - 4, "action": "rate", "value": 4.5},
        ],
    )
    [asked] = edge.ranker.asked
    assert asked.recent.tolist()[0] == behaviours(["i7"], start_ms=NOW_MS - 5).tolist()[0]
    assert asked.recent["value"].tolist() == [0, 45]


async def test_request_time_is_now_unless_it_is_given(edge: Edge) -> None:
    await rank(edge)
    await rank(edge, request_time=NOW_MS - 7)
    assert [asked.request_time_ms for asked in edge.ranker.asked] == [NOW_MS, NOW_MS - 7]


async def test_the_context_reaches_the_ranker_on_both_ways(edge: Edge) -> None:
    await rank(edge, context={"device": "ios", "tz_offset": 60})
    await rank(edge, context={"device": "ios", "tz_offset": 60}, features={"i1": {"year": 1995}})  # the long way
    assert [asked.context for asked in edge.ranker.asked] == [{"device": "ios", "tz_offset": 60}] * 2


async def test_attributes_reach_the_decision_and_nothing_else(edge: Edge) -> None:
    await rank(edge, attributes={"country": "ie"})
    assert len(edge.experiments.counted) == 1


@pytest.mark.parametrize(
    ("given", "seconds"), [(None, 60.0), ("100", 0.1), ("0", 0.001), ("999999999", 90.0), ("0000100", 0.1)]
)
async def test_the_deadline_is_the_callers_within_limits(edge: Edge, given: str | None, seconds: float) -> None:
    before = asyncio.get_running_loop().time()
    await rank(edge, headers={} if given is None else {"X-Deadline-Ms": given})
    after = asyncio.get_running_loop().time()
    [asked] = edge.ranker.asked
    assert before + seconds <= asked.deadline <= after + seconds


@pytest.mark.parametrize("given", ["-1", "1.5", "soon", "", "1e3", "10000000000", "٣"])
async def test_a_deadline_that_is_no_number_is_refused_and_named(edge: Edge, given: str) -> None:
    async with edge.client() as client:
        headers = [(b"x-deadline-ms", given.encode())]
        answer = await client.post("/rank", json={"user_id": "u", "candidates": ["i"]}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "X-Deadline-Ms"
    assert edge.ranker.asked == []


ERRORS: list[tuple[RankerError, int, str | None]] = [
    (Overloaded(), 429, "1"),
    (Overloaded("Busy.", retry_after=3), 429, "3"),
    (DeadlineExceeded(), 504, None),
    (NotReady(), 503, "1"),
    (InferenceFailed(), 500, None),
]


@pytest.mark.parametrize(("error", "status", "retry_after"), ERRORS)
async def test_every_refusal_of_the_ranker_carries_the_bucket(
    edge: Edge, error: RankerError, status: int, retry_after: str | None
) -> None:
    good = await rank(edge)
    edge.ranker.error = error
    answer = await rank(edge)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == error.code
    assert answer.headers.get("retry-after") == retry_after
    assert answer.headers["x-ab-bucket"] == good.headers["x-ab-bucket"]
    assert "x-model" not in answer.headers


async def test_a_fault_of_ours_is_an_internal_error_without_a_word_of_it(edge: Edge) -> None:
    edge.ranker.error = ZeroDivisionError("secret detail")  # type: ignore[assignment]
    answer = await rank(edge)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-ab-bucket"].endswith("r=split")


async def test_a_signed_override_is_served_and_a_forged_one_ignored_and_counted(edge: Edge) -> None:
    own = (await rank(edge)).headers["x-ab-bucket"]
    other = "control" if "treatment" in own else "treatment"
    wish = f"rank=pyramid-vs-mgnm:{other}"
    signed = sign(edge.secret, NOW_MS // 1000, "u1", wish)
    answer = await rank(edge, headers={"X-AB-Override": signed})
    assert answer.headers["x-ab-bucket"] == f"rank=pyramid-vs-mgnm:{other};r=override"
    forged = sign("guessed", NOW_MS // 1000, "u1", wish)
    answer = await rank(edge, headers={"X-AB-Override": forged})
    assert answer.headers["x-ab-bucket"] == own
    assert edge.samples("ranker_overrides_rejected_total")['{reason="signature"}'] == 1


async def test_a_degraded_answer_says_so(edge: Edge) -> None:
    edge.ranker.degraded = ("store_unavailable", "popularity")
    assert (await rank(edge)).json()["degraded"] == ["store_unavailable", "popularity"]


async def test_before_the_backend_is_there_rankings_are_refused(edge: Edge) -> None:
    edge.runtime.backend = None
    answer = await rank(edge)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert answer.headers["x-ab-bucket"] == "none;r=error"
    assert "x-ab-config" not in answer.headers


# --- behaviours and feedback


async def test_behaviours_are_stored_and_repeats_counted(edge: Edge) -> None:
    async with edge.client() as client:
        body = {"behaviours": [BEHAVIOUR, BEHAVIOUR, {**BEHAVIOUR, "user_id": "u2"}]}
        first = await client.post("/behaviours", json=body)
        again = await client.post("/behaviours", json=body)
    assert answers.BehavioursResponse.model_validate_json(first.content).stored == 2
    assert first.json() == {"stored": 2, "repeated": 1, "refused": 0, "refusals": []}
    assert again.json() == {"stored": 0, "repeated": 3, "refused": 0, "refusals": []}
    assert edge.samples("ranker_behaviours_written_total")['{result="stored"}'] >= 2


async def test_a_behaviour_too_far_ahead_is_refused_alone(edge: Edge) -> None:
    ahead = NOW_MS + edge.settings.limits.max_future_ms
    body = {"behaviours": [{**BEHAVIOUR, "ts": ahead + 1}, {**BEHAVIOUR, "ts": ahead}, BEHAVIOUR]}
    async with edge.client() as client:
        answer = await client.post("/behaviours", json=body)
    assert answer.json() == {"stored": 2, "repeated": 0, "refused": 1, "refusals": [{"index": 0, "reason": "future"}]}


async def test_a_key_of_the_wrong_type_refuses_its_user_alone(edge: Edge) -> None:
    edge.store.wrong = frozenset({"u2"})
    body = {"behaviours": [{**BEHAVIOUR, "user_id": "u2"}, BEHAVIOUR, {**BEHAVIOUR, "user_id": "u2", "ts": NOW_MS - 3}]}
    async with edge.client() as client:
        answer = await client.post("/behaviours", json=body)
    assert answer.json()["stored"] == 1
    assert answer.json()["refusals"] == [{"index": 0, "reason": "wrong_type"}, {"index": 2, "reason": "wrong_type"}]


async def test_every_refusal_is_listed_and_counted_by_reason(edge: Edge) -> None:
    edge.store.wrong = frozenset({"u2"})
    body = {"behaviours": [{**BEHAVIOUR, "ts": NOW_MS * 2}] * 20 + [{**BEHAVIOUR, "user_id": "u2"}]}
    before = edge.samples("ranker_behaviours_refused_total")
    async with edge.client() as client:
        answer = await client.post("/behaviours", json=body)
    assert answer.json()["refused"] == 21
    assert [refusal["index"] for refusal in answer.json()["refusals"]] == list(range(21))
    counted = edge.samples("ranker_behaviours_refused_total")
    reasons = ('{reason="future"}', '{reason="wrong_type"}')
    assert [counted[reason] - before[reason] for reason in reasons] == [20, 1]


async def test_a_store_that_is_down_takes_nothing_and_says_when_to_come_again(edge: Edge) -> None:
    edge.store.is_down = True
    async with edge.client() as client:
        answer = await client.post("/behaviours", json={"behaviours": [BEHAVIOUR]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_stored_behaviours_are_shown_where_that_is_allowed() -> None:
    edge = Edge(Settings(http=HttpSettings(behaviours_enabled=True)))
    edge.store.users["a/b ü"] = behaviours(["i1", "i2"], start_ms=7)
    async with edge.client() as client:
        answer = await client.get("/behaviours/a%2Fb%20%C3%BC")
        unfit = await client.get("/behaviours/%0a")
        broken = [await client.get(f"/behaviours/{name}") for name in ("a%0Ab", "a%0A", "%0Aa")]
    shown = answers.StoredBehavioursResponse.model_validate_json(answer.content)
    assert shown.user_id == "a/b ü"
    assert [behaviour.ts for behaviour in shown.behaviours] == [8, 7]
    assert {one.status_code for one in broken} == {422}  # the route is found, and no id is cut
    assert (unfit.status_code, unfit.json()["error"]["field"]) == (422, "user_id")


@pytest.mark.parametrize("path", ["/rank", "/rank/batch", "/behaviours", "/feedback", "/info", "/health/ready"])
async def test_a_line_break_after_a_route_is_no_part_of_it(edge: Edge, path: str) -> None:
    """Else a ranking would pass the gate by."""
    async with edge.client() as client:
        found = [(await client.request(method, f"{path}%0A", json={})).status_code for method in ("GET", "POST")]
    assert found == [404, 404]


async def test_stored_behaviours_are_shown_nowhere_else(edge: Edge) -> None:
    edge.store.users["u1"] = behaviours(["i1"])
    async with edge.client() as client:
        assert (await client.get("/behaviours/u1")).status_code == 404


TAKEN = {"accepted": 1, "stored": None, "dropped": 0, "refused": 0, "refusals": []}
LIKE: dict[str, object] = {"user_id": "u1", "item_id": "i1", "action": "like"}


async def test_feedback_is_taken(edge: Edge) -> None:
    event = {"user_id": "u1", "item_id": "i1", "action": "play", "request_id": "r", "play_ms": 100}
    async with edge.client() as client:
        answer = await client.post("/feedback", json={"feedback": [event]})
    assert (answer.status_code, answer.json()) == (202, TAKEN)
    assert edge.feedback.taken == [event]


async def test_typed_feedback_from_far_away_is_taken_and_counted(edge: Edge) -> None:
    event = {"user_id": "u1", "type": "foreground", "event_id": "1", "ts": NOW_MS + 2 * 86_400_000}
    async with edge.client() as client:
        answer = await client.post("/feedback", json={"feedback": [event, {**event, "ts": NOW_MS}, LIKE]})
    assert (answer.status_code, answer.json()) == (202, {**TAKEN, "accepted": 3, "clamped": 1})
    assert len(edge.feedback.taken) == 3


async def test_feedback_without_room_is_refused_and_with_little_room_named(edge: Edge) -> None:
    edge.feedback.room = 1
    async with edge.client() as client:
        partly = await client.post("/feedback", json={"feedback": [LIKE] * 70})
        none = await client.post("/feedback", json={"feedback": [LIKE]})
    refusals = [{"index": 1, "count": 69, "reason": "full"}]
    assert (partly.status_code, partly.json()) == (202, {**TAKEN, "dropped": 69, "refusals": refusals})
    assert (none.status_code, none.headers["retry-after"]) == (429, "1")


async def test_feedback_from_the_future_is_refused_by_its_place(edge: Edge) -> None:
    late = {**LIKE, "ts": NOW_MS + edge.settings.limits.max_future_ms + 1}
    edge.feedback.room = 2
    sent = [{**LIKE, "ts": late["ts"] - 1}, late, late, LIKE, late, LIKE]  # type: ignore[operator]
    async with edge.client() as client:
        answer = await client.post("/feedback", json={"feedback": sent})
        all_late = await client.post("/feedback", json={"feedback": [late]})
    refusals = [
        {"index": 1, "count": 2, "reason": "future"},
        {"index": 4, "count": 1, "reason": "future"},
        {"index": 5, "count": 1, "reason": "full"},
    ]
    expected = {"accepted": 2, "stored": None, "dropped": 1, "refused": 3, "refusals": refusals}
    assert (answer.status_code, answer.json()) == (202, expected)
    assert (all_late.status_code, all_late.json()["refused"]) == (202, 1)


async def test_acknowledged_feedback_is_answered_when_it_is_stored(edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.post("/feedback?ack=stored", json={"feedback": [LIKE]})
        plain = await client.post("/feedback?ack=accepted", json={"feedback": [LIKE]})
    assert (answer.status_code, answer.json()) == (200, {**TAKEN, "stored": 1})
    assert (plain.status_code, plain.json()) == (202, TAKEN)


@pytest.mark.parametrize("stores", [False, None])
async def test_feedback_that_is_not_stored_in_time_is_503(edge: Edge, stores: bool | None) -> None:
    edge.feedback.stores = stores
    async with edge.client() as client:
        answer = await client.post("/feedback?ack=stored", json={"feedback": [LIKE]}, headers={"x-deadline-ms": "5"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("query", ["ack=all", "ack=", "ack=stored&ack=stored", "ack=Stored"])
async def test_another_acknowledgement_is_refused_and_nothing_is_taken(edge: Edge, query: str) -> None:
    async with edge.client() as client:
        answer = await client.post(f"/feedback?{query}", json={"feedback": [LIKE]})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "ack")
    assert edge.feedback.taken == []


# --- people and probes


async def test_info_is_as_its_schema_says(edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.get("/info")
    info = answers.InfoResponse.model_validate_json(answer.content)
    assert info.bundles[0].name == "mgnm@1"
    assert info.experiments is not None
    assert info.experiments.revision == "test.1"
    assert info.limits["max_candidates"] == 2_000


async def test_readiness_does_not_ask_the_store(edge: Edge) -> None:
    edge.store.is_down = True
    async with edge.client() as client:
        assert (await client.get("/health/ready")).json() == {"status": "ready"}


@pytest.mark.parametrize("state", ["loading", "draining", "unhealthy"])
async def test_readiness_fails_while_loading_draining_or_broken_and_liveness_does_not(edge: Edge, state: str) -> None:
    if state == "loading":
        edge.runtime.backend = None
    elif state == "draining":
        edge.runtime.drain()
    else:
        edge.ranker.is_ready = False
    async with edge.client() as client:
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["error"]["code"]) == (503, "not_ready")
        assert (await client.get("/health/live")).json() == {"status": "alive"}
        metrics = await client.get("/metrics")
        assert "ranker_ready 0.0" in metrics.text


async def test_readiness_of_a_succeeded_process_is_that_of_its_successor(edge: Edge) -> None:
    edge.runtime.is_succeeded = True
    edge.runtime.drain()
    try:
        async with edge.client() as client:
            ready = await client.get("/health/ready")
    finally:
        edge.runtime.is_succeeded = False
    assert (ready.status_code, ready.headers["connection"]) == (200, "close")


async def test_a_draining_service_answers_and_closes_the_connection(edge: Edge) -> None:
    edge.runtime.drain()
    answer = await rank(edge)
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"


async def test_metrics_are_in_prometheus_format(edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE ranker_requests_total counter" in answer.text


async def test_the_docs_are_off_unless_they_are_switched_on() -> None:
    async with Edge().client() as client:
        assert (await client.get("/docs")).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 200
    async with Edge(Settings()).client() as client:
        assert (await client.get("/docs")).status_code == 404
        assert (await client.get("/openapi.json")).status_code == 404


async def test_limits_are_settings() -> None:
    edge = Edge(Settings(limits=LimitsSettings(max_candidates=2, max_recent=1, max_behaviours=1, max_body_bytes=500)))
    too_many = {"behaviours": [BEHAVIOUR, BEHAVIOUR]}
    async with edge.client() as client:
        assert (await rank(edge, candidates=["a", "b"])).status_code == 200
        assert (await rank(edge, candidates=["a", "b", "c"])).status_code == 413
        assert (await rank(edge, candidates=["a"], recent=[{"item_id": "i", "ts": NOW_MS}] * 2)).status_code == 413
        assert (await client.post("/behaviours", json=too_many)).status_code == 413
        assert (await rank(edge, candidates=["a" * 500])).status_code == 413
