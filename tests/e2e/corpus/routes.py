"""The other routes, in less detail: they are not on the hot path, and must not change with it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.e2e.corpus.case import JSON, Case, body, get, post

_EVENT = '{"user_id":"w1","item_id":"i1","action":"finish","ts":1700000000000}'
_BEHAVIOUR = '{"user_id":"w1","item_id":"i1","ts":1700000000000}'


def cases() -> Iterator[Case]:
    """Return all cases of this file."""
    yield from _reads()
    yield from _writes()
    yield from _versioned()
    yield from _batches()


def _reads() -> Iterator[Case]:
    for path in ("/info", "/health/live", "/health/ready"):
        yield Case(f"GET {path}", get(path))
        yield Case(f"HEAD {path}", get(path, method="HEAD"), bodyless=(0,))
        yield Case(f"POST {path}", post("{}", path=path))
        yield Case(f"GET {path} with a request id", get(path, headers=f"x-request-id: of{path}\r\n"))
    for path in ("/metrics", "/docs", "/openapi.json"):
        yield Case(f"GET {path}", get(path), hides_body=True)
        yield Case(f"HEAD {path}", get(path, method="HEAD"), bodyless=(0,), hides_body=True)
    for path in (
        "/",
        "/none",
        "/info/",
        "/health",
        "/favicon.ico",
        "/rank/x",
        "/behaviours",
        "/feedback",
        "/info?x=1",
        "/%69nfo",
        "/docs/",
        "/redoc",
        "/page/compare",
    ):
        yield Case(f"GET {path}", get(path))
    for user in ("two", "cold-2", "wrong", "torn", "a%20b", "%20a", "a%00", "x" * 129, "%F0%9F%8E%AC", "a/b", ""):
        yield Case(f"GET /behaviours/{user}", get(f"/behaviours/{user}"))
    yield Case("DELETE /behaviours/two", get("/behaviours/two", method="DELETE"))


def _versioned() -> Iterator[Case]:
    """The prefix of the version is an alias of every route, once and exactly so."""
    yield Case("POST /v1/rank", post(body(), path="/v1/rank"))
    yield Case("POST /v1/rank, twice", (*post(body(), path="/v1/rank"), *post(body(), path="/v1/rank")), requests=2)
    yield Case("POST /v1/rank: no user", post("{}", path="/v1/rank"))
    yield Case("GET /v1/rank", get("/v1/rank"))
    yield Case("POST /v1/behaviours", post(f'{{"behaviours":[{_BEHAVIOUR}]}}', path="/v1/behaviours"))
    yield Case("POST /v1/feedback?ack=stored", post(f'{{"feedback":[{_EVENT}]}}', path="/v1/feedback?ack=stored"))
    yield Case("GET http://ranker/v1/behaviours/two", get("http://ranker/v1/behaviours/two"))
    for path in (
        "/v1/health/ready",
        "/v1",
        "/v1/",
        "/v1?x",
        "/v1/?x",
        "/v1//rank",
        "/v1/v1/rank",
        "/v2/rank",
        "/%761/rank",
    ):
        yield Case(f"GET {path}", get(path))


def _batches() -> Iterator[Case]:
    """The ids of the rankings are new each time, so only refusals of whole requests are recorded."""
    for name, text in {
        "no rankings": '{"rankings":[],"shown":true}', "shown is missing": f'{{"rankings":[{body()}]}}', "not JSON": "{",
        "101 rankings": '{"rankings":[' + ",".join([body()] * 101) + '],"shown":false}',
    }.items():  # fmt: skip
        yield Case(f"batch: {name}", post(text, path="/rank/batch"))
    yield Case("GET /rank/batch", get("/rank/batch"))


def _typed_feedback() -> Iterator[Case]:
    play = '{"user_id":"w1","type":"play_end","event_id":"e1","item_id":"i1","view_id":"v1","play_ms":5}'
    far = '{"user_id":"w1","type":"foreground","device_id":"d1","tz_offset":480,"ts":1700000000000}'
    yield Case("feedback: of a type", post(f'{{"feedback":[{play}]}}', path="/feedback"))
    yield Case("feedback: moved", post(f'{{"feedback":[{play},{far},{_EVENT}]}}', path="/feedback?ack=stored"))
    for name, text in {
        "no view": play.replace('"view_id":"v1",', ""), "negative play": play.replace(":5}", ":-5}"),
        "type and action": play.replace("{", '{"action":"play",'), "unknown type": play.replace("play_end", "x"),
        "unknown field": play.replace("{", '{"session_hint":"s",'), "action with a view": _EVENT.replace("{", '{"view_id":"v1",'),
    }.items():  # fmt: skip
        yield Case(f"feedback: {name}", post(f'{{"feedback":[{play},{text}]}}', path="/feedback"))


def _writes() -> Iterator[Case]:
    one = post(f'{{"behaviours":[{_BEHAVIOUR}]}}', path="/behaviours")
    yield Case("behaviours: one", one)
    yield Case("behaviours: one again", one)
    yield Case(
        "behaviours: of every kind",
        post(
            '{"behaviours":['
            + ",".join(
                [
                    _BEHAVIOUR,
                    '{"user_id":"w2","item_id":"i2","ts":1700000000001,"action":"play","play_ms":5,"value":4.5}',
                    _BEHAVIOUR,
                    '{"user_id":"w1","item_id":"i1","ts":253402300799999}',
                    '{"user_id":"wrong","item_id":"i1","ts":1700000000000}',
                ]
            )
            + "]}",
            path="/behaviours",
        ),
    )
    yield Case("ranking after writing", post(body(user_id='"w2"', explain="true")))
    for name, text in {
        "none": '{"behaviours":[]}', "missing": "{}", "not JSON": "{", "an array": "[]", "empty": "", "seconds": '{"behaviours":[{"user_id":"w1","item_id":"i1","ts":1700000000}]}',
        "no user": '{"behaviours":[{"item_id":"i1","ts":1700000000000}]}', "unknown field": '{"behaviours":[{"user_id":"w1","item_id":"i1","ts":1700000000000,"x":1}]}',
        "a blank": '{"behaviours":[{"user_id":" w1","item_id":"i1","ts":1700000000000}]}', "a second bad one": f'{{"behaviours":[{_BEHAVIOUR},{{}}]}}', "unknown key": '{"behaviour":[]}',
    }.items():  # fmt: skip
        yield Case(f"behaviours: {name}", post(text, path="/behaviours"))
    yield Case(
        "behaviours: 1,001", post('{"behaviours":[' + _BEHAVIOUR, ("," + _BEHAVIOUR, 1_000), "]}", path="/behaviours")
    )
    yield Case(
        "behaviours: 1,000, all the same",
        post('{"behaviours":[' + _BEHAVIOUR, ("," + _BEHAVIOUR, 999), "]}", path="/behaviours"),
    )
    yield Case("behaviours: too large", post((" ", 1_048_577), path="/behaviours"))
    yield Case("behaviours: wrong type", post("{}", path="/behaviours", headers=""))
    yield Case("behaviours: X-Deadline-Ms unfit", post("{}", path="/behaviours", headers=f"{JSON}x-deadline-ms: x\r\n"))
    yield Case("feedback: one", post(f'{{"feedback":[{_EVENT}]}}', path="/feedback"))
    for query in (
        "?ack=accepted",
        "?ack=stored",
        "?ack=",
        "?ack=both",
        "?ack=stored&ack=stored",
        "?other=1",
        "?ack=stored;x",
    ):
        yield Case(f"feedback: {query}", post(f'{{"feedback":[{_EVENT}]}}', path=f"/feedback{query}"))
    future = _EVENT.replace("1700000000000", "253402300799999")
    yield Case(
        "feedback: in the future",
        post(f'{{"feedback":[{_EVENT},{future},{future},{_EVENT}]}}', path="/feedback?ack=stored"),
    )
    for name, text in {
        "none": '{"feedback":[]}', "no action": '{"feedback":[{"user_id":"w1","item_id":"i1"}]}', "not JSON": "x", "bad request_id": _EVENT.replace("{", '{"feedback":[{"request_id":"",', 1) + "]}",
        "ack unfit and not JSON": "x",
    }.items():  # fmt: skip
        yield Case(f"feedback: {name}", post(text, path="/feedback?ack=1" if name.startswith("ack") else "/feedback"))
    yield Case(
        "feedback: ack=stored and X-Deadline-Ms unfit",
        post(f'{{"feedback":[{_EVENT}]}}', path="/feedback?ack=stored", headers=f"{JSON}x-deadline-ms: x\r\n"),
    )
    yield from _typed_feedback()
    yield Case("feedback: PUT", post("{}", path="/feedback", method="PUT"))
