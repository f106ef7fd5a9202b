"""Hostile bodies: named ones, mutated ones, and what they cost."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import orjson

from benchmarks.load.usage import usage
from service.http.answers import ErrorResponse, RankResponse
from tests.faults.raw import Raw, get, post
from tests.faults.rig import Rig
from tests.faults.row import proven, row
from tests.faults.snapshot import snapshot
from tests.faults.world import item, user

_LARGEST: Final = 2_000
_REFUSALS: Final = {400, 405, 408, 411, 413, 415, 422, 431}
_HANG_SECONDS: Final = 1.0
_MOST_BYTES: Final = 512
_CPU_SECONDS: Final = 0.3  # of repeats, so that the clock's ticks of 10 ms do not count


def _body(**parts: object) -> bytes:
    return json.dumps({"user_id": user(1), "candidates": [item(1), item(2)], **parts}).encode()


def _full() -> dict[str, bytes]:
    """Return bodies of nearly 1 MiB with as many values of a kind as they have room for."""
    units = {"objects": "{}", "lists": "[]", "texts": '"a"', "numbers": "1.5"}
    listed = {
        f"1 MiB of {name}": f"[{','.join([unit] * (1_040_000 // (1 + len(unit))))}]" for name, unit in units.items()
    }
    made = {name: b'{"user_id":"u","candidates":%b}' % values.encode() for name, values in listed.items()}
    keys = ",".join(f'"{number:x}":1' for number in range(100_000)).encode()
    return made | {"1 MiB of keys": b'{"user_id":"u","candidates":["a"],"attributes":{%b}}' % keys}


def battery() -> dict[str, bytes]:
    """Return hostile bodies by name; each must be refused with a small answer."""
    plain = _body()
    return {
        "NaN": b'{"user_id": NaN, "candidates": ["a"]}', "1e999": b'{"user_id": 1e999, "candidates": ["a"]}',
        "-Infinity": b'{"user_id": "u", "candidates": [-Infinity]}', "NaN as limit": plain[:-1] + b', "limit": NaN}',
        "1e999 as limit": plain[:-1] + b', "limit": 1e999}', "5,000 digits": plain[:-1] + b', "limit": ' + b"9" * 5_000 + b"}",
        "2^64 as limit": _body(limit=2**64), "-0.0 as limit": plain[:-1] + b', "limit": -0.0}', "1e3 as limit": plain[:-1] + b', "limit": 1e3}',
        "true as limit": _body(limit=True), "text as limit": _body(limit="7"), "lone surrogate": b'{"user_id": "\\ud800", "candidates": ["a"]}',
        "surrogate in a list": b'{"user_id": "u", "candidates": ["\\udfff"]}', "NUL": _body(user_id="a\0b"),
        "129 bytes": _body(user_id="x" * 129), "empty id": _body(user_id=""), "blank id": _body(user_id=" "),
        "depth 100": b"[" * 100 + b"]" * 100, "depth 1,000": b'{"user_id":' + b"[" * 1_000 + b"]" * 1_000 + b"}",
        "depth 100,000": b"[" * 100_000, "unknown key": _body(surprise=1), "__proto__": _body(__proto__={}),
        "null": b"null", "empty": b"", "array at top": b"[]", "text at top": b'"x"', "no candidates": _body(candidates=[]),
        "null candidates": _body(candidates=None), "a number as id": _body(user_id=7), "numbers as candidates": _body(candidates=[1, 2]),
        "one over the limit": _body(candidates=[item(n) for n in range(_LARGEST + 1)]), "100,000 wrong elements": _body(candidates=[1] * 100_000),
        "100,000 empty objects": _body(recent=[{}] * 100_000), **_full(), "byte order mark": b"\xef\xbb\xbf" + plain, "UTF-16": plain.decode().encode("utf-16"),
        "UTF-32": plain.decode().encode("utf-32"), "bad UTF-8": plain.replace(b"canary", b"\xff\xfe", 1), "trailing bytes": plain + b"x",
        "two documents": plain + plain, "a comment": b"/* x */" + plain, "single quotes": plain.replace(b'"', b"'"),
        "a torn end": plain[:-1], "1 MB unknown": _body(unknown="x" * 1_000_000), "over 1 MiB": _body(unknown="x" * 1_100_000),
        "seconds as time": _body(request_time=1_700_000_000), "a time before 1971": _body(request_time=-5),
        "33 attributes": _body(attributes={f"a{n}": 1 for n in range(33)}), "nested attributes": _body(attributes={"a": {"b": 1}}),
        "501 behaviours": _body(recent=[{"item_id": "a", "ts": 1_700_000_000_000}] * 501),
        "NaN in a behaviour": plain[:-1] + b', "recent": [{"item_id": "a", "ts": NaN}]}',
    }  # fmt: skip


def mutated(sound: bytes, draw: random.Random) -> bytes:
    """Return a body with some bytes changed, removed, repeated or put in."""
    altered = bytearray(sound)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(altered) + 1)
        kind = draw.randrange(5)
        if kind == 0 and altered:
            altered[place % len(altered)] = draw.randrange(256)
        elif kind == 1:
            del altered[place : place + draw.randint(1, 12)]
        elif kind == 2:
            altered[place:place] = altered[: draw.randint(1, 40)]
        elif kind == 3:
            altered[place:place] = draw.choice(
                (b'"', b"{", b"[", b"\\u0000", b"\xff", b"1e999", b"NaN", b"null", b",", b"\\ud800")
            )
        else:
            altered = altered[: max(1, place)]
    return bytes(altered)


@row("J1 J2 J3 J4 J5 J6 J12 J14 J15", "hostile and mutated bodies", "payload", quick=True)
def hostile(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis, parts={"items": _LARGEST})
    before = snapshot(service)
    found = _tried(rig, service.port, int(rig.pick(4_000, 100_000)), service.process.pid)
    after = snapshot(service)
    counted = after.statuses()
    counted.subtract(before.statuses())
    rig.require(
        found.statuses == {k: v for k, v in counted.items() if v}, f"V2: {dict(counted)}, seen {found.statuses}"
    )
    rig.require(not found.problems, f"{len(found.problems)} bad answers, such as {found.problems[:3]}")
    with rig.plain(redis, parts={"items": _LARGEST}) as server:
        plain = _tried(rig, server.port, 1_000, server.process.pid, is_plain=True)
    rig.asked(found.asked)
    rig.figure("C1", "hostile bodies over sockets", found.asked, least=1_000)
    rig.figure(
        "C2",
        "answers of 500, hangs, lost connections, of the named bodies",
        found.bad_named,
        most=0,
        plain=plain.bad_named,
    )
    rig.figure(
        "C6",
        "CPU of the most expensive refusal, of the largest valid ranking",
        found.cost,
        "x",
        most=1.0,
        plain=plain.cost,
    )
    rig.figure("C7", "longest wait of a health check meanwhile", found.stall_ms, "ms", most=20.0, plain=plain.stall_ms)
    rig.figure("C8", "largest refusal", found.most_bytes, "B", most=_MOST_BYTES, plain=plain.most_bytes)
    rig.figure("C8", "bytes out for bytes in, body over 1 KB", found.amplified, "x", most=1.0, plain=plain.amplified)


class _Found:
    """The results of one server."""

    def __init__(self) -> None:
        self.asked = self.bad_named = self.most_bytes = 0
        self.cost = self.amplified = self.stall_ms = 0.0
        self.statuses: dict[str, int] = {}
        self.problems: list[str] = []

    def note(self, name: str, body: bytes, answer: Raw | None, *, is_named: bool, is_plain: bool) -> None:
        self.asked += 1
        problem = _problem(answer, is_named, is_plain)
        if answer is not None:
            self.statuses[str(answer.status)] = self.statuses.get(str(answer.status), 0) + 1
            if answer.status != 200:
                self.most_bytes = max(self.most_bytes, len(answer.body))
                if len(body) > 1_000:
                    self.amplified = max(self.amplified, len(answer.body) / len(body))
        if problem:
            self.bad_named += is_named
            self.problems.append(f"{name}: {problem}")


def _problem(answer: Raw | None, is_named: bool, is_plain: bool) -> str:
    if answer is None:
        return "no answer"
    if answer.seconds > _HANG_SECONDS:
        return f"{answer.seconds:.1f} s"
    if answer.status >= 500:
        return f"status {answer.status}"
    if is_plain:
        return ""
    if is_named and answer.status not in _REFUSALS:
        return f"status {answer.status}"
    try:
        (RankResponse if answer.status == 200 else ErrorResponse).model_validate_json(answer.body)
    except ValueError as error:
        return f"another body: {error}"[:200]
    return ""


def _tried(rig: Rig, port: int, count: int, pid: int, *, is_plain: bool = False) -> _Found:
    found, draw, bodies, spent = _Found(), random.Random(rig.seed), battery(), dict[str, float]()
    if is_plain and rig.is_quick:  # each takes it up to 9 s
        bodies = {name: body for name, body in bodies.items() if name not in _full()}
    path = "/health" if is_plain else "/health/live"
    with _heartbeat(port, path) as waits, post(port) as connection:
        connection.tries = 2 if is_plain else 1  # it closes the connection after each 500
        for name, body in bodies.items():
            began = usage([pid]).cpu_seconds
            found.note(name, body, connection.ask(body), is_named=True, is_plain=is_plain)
            spent[name] = usage([pid]).cpu_seconds - began
        for _ in range(count):
            body = mutated(draw.choice(rig.world.asked).body, draw)
            found.note("mutated", body, connection.ask(body), is_named=False, is_plain=is_plain)
    found.stall_ms = 1_000 * max(waits, default=0.0)
    with post(port) as connection:

        def cost(body: bytes) -> float:
            return _cpu(lambda: _note(found, connection.ask(body)), pid)

        valid = cost(_largest_known() if is_plain else _largest())
        costly = bodies.keys() & {
            "100,000 wrong elements",
            "100,000 empty objects",
            "1 MB unknown",
            "depth 100,000",
            *_full(),
        }
        # The plain build needs seconds for each: one time is enough.
        found.cost = max(spent[name] if spent[name] > _CPU_SECONDS else cost(bodies[name]) for name in costly) / valid
    return found


def _largest() -> bytes:
    """Return the largest ranking within the limits: candidates and behaviours with the longest ids, most of them known."""
    long = [f"{n:0128d}" for n in range(500)]
    candidates = [item(n) for n in range(1, _LARGEST - 499)] + long
    recent = [{"item_id": one, "ts": 1_700_000_000_000 + n, "action": "click"} for n, one in enumerate(long)]
    return orjson.dumps({"user_id": user(1), "candidates": candidates, "recent": recent, "explain": True})


def _largest_known() -> bytes:
    """Return the largest ranking that the plain build answers: it knows no other items, and reads no behaviours."""
    return orjson.dumps({"user_id": user(1), "candidates": [item(n) for n in range(1, _LARGEST + 1)]})


def _note(found: _Found, answer: Raw | None) -> None:
    if answer is not None:
        found.statuses[str(answer.status)] = found.statuses.get(str(answer.status), 0) + 1


def _cpu(ask: Callable[[], object], pid: int) -> float:
    """Return the processor time of one request, in seconds."""
    began, count = usage([pid]).cpu_seconds, 0
    until = time.monotonic() + 20
    while not count or (usage([pid]).cpu_seconds - began < _CPU_SECONDS and time.monotonic() < until):
        ask()
        count += 1
    return max(1e-6, (usage([pid]).cpu_seconds - began) / count)


@contextmanager
def _heartbeat(port: int, path: str) -> Iterator[list[float]]:
    """Ask for the health of a server every 5 ms during the block; yields how long each answer took."""
    told, waits = threading.Event(), list[float]()

    def beat() -> None:
        with get(port, path) as connection:
            while not told.wait(0.005):
                answer = connection.ask()
                waits.append(answer.seconds if answer else 0.0)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield waits
    finally:
        told.set()
        thread.join()


@row("J7 J8 J9 J10 J11 J16 J17", "valid requests of every kind and size", "payload")
def valid(rig: Rig) -> None:
    """Nothing valid is refused, and the same request has the same order every time."""
    redis = rig.redis()
    service = rig.service(redis, parts={"items": _LARGEST})
    draw, refused, changed = random.Random(rig.seed), list[str](), 0
    count = int(rig.pick(1_000, 20_000))
    with post(service.port) as connection:
        for _ in range(count):
            body = _valid(draw)
            first, second = connection.ask(body), connection.ask(body)
            for answer in (first, second):
                if answer is None or answer.status != 200:
                    refused.append(f"{answer.status if answer else 'none'}: {body[:200]!r}")
            if first and second and b'"degraded":[]' in first.body and b'"degraded":[]' in second.body:
                changed += _order(first) != _order(second)
    rig.asked(2 * count)
    rig.require(not refused, f"refused: {refused[:2]}")
    rig.require(not changed, f"{changed} requests had another order the second time")
    rig.figure("C11", f"valid requests refused, of {2 * count:,}", len(refused), most=0)


def _order(answer: Raw) -> list[str]:
    return [one["item_id"] for one in orjson.loads(answer.body)["items"]]


def _valid(draw: random.Random) -> bytes:
    ids = [
        "a",
        "\u00e9",
        "e\u0301",
        "\U0001f600",
        "x" * 128,
        "a b",
        "{}",
        "%s",
        "'; DROP",
        "*1\r".strip(),
        "${x}",
        "\u200d",
    ]
    size = draw.choice((1, 1, 2, 10, 200, _LARGEST))
    candidates = [draw.choice(ids) if draw.random() < 0.1 else item(draw.randint(1, 3 * _LARGEST)) for _ in range(size)]
    parts: dict[str, object] = {
        "user_id": draw.choice((user(draw.randrange(90)), draw.choice(ids))),
        "candidates": candidates,
    }
    if draw.random() < 0.3:
        parts["limit"] = draw.randint(1, 3_000)
    if draw.random() < 0.3:
        parts["recent"] = [
            {"item_id": item(draw.randint(1, 60)), "ts": draw.randint(31_536_000_000, 4_000_000_000_000), "action": "click"}
            for _ in range(draw.choice((0, 1, 500)))
        ]  # fmt: skip
    if draw.random() < 0.2:
        parts["request_time"] = draw.choice((31_536_000_000, 253_402_300_799_999, 1_700_000_000_000))
    if draw.random() < 0.2:
        parts["explain"] = True
    return orjson.dumps(parts)


proven("C3 J13", "exact answers to a thousand recorded requests", "payload",
       "e2e/test_corpus.py::test_answers_are_as_recorded",
       "e2e/test_corpus.py::test_answers_are_the_same_however_the_bytes_arrive",
       "unit/service/http/test_bad_input.py::test_content_type_must_be_json")  # fmt: skip
