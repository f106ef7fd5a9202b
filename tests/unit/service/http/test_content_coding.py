"""Compressed bodies are read as plain ones are, and cost no more."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from typing import Any

import pytest

from service.errors import Malformed, TooLarge
from service.flow.turns import Turns
from service.http.content_coding import inflated
from tests.support.fakes import NOW_MS, Edge

pytestmark = pytest.mark.anyio

GOOD = b'{"user_id": "u1", "candidates": ["i1", "i2"]}'
BODIES = {
    "/rank": GOOD,
    "/behaviours": b'{"behaviours": [{"user_id": "u1", "item_id": "i1", "ts": %d}]}' % (NOW_MS - 1),
    "/items": b'{"items": [{"item_id": "i1", "features": {"genre": "drama"}}]}',
    "/feedback": b'{"feedback": [{"user_id": "u1", "type": "foreground"}]}',
}
LIMIT = 1_048_576


def turns() -> Turns:
    return Turns(lambda: False)


async def send(edge: Edge, content: bytes, path: str = "/rank", **headers: str) -> Any:
    async with edge.client() as client:
        given = {"content-type": "application/json", "content-encoding": "gzip"} | headers
        return await client.post(path, content=content, headers=given)


@pytest.mark.parametrize("path", BODIES)
async def test_a_compressed_body_gets_the_answer_of_a_plain_one(edge: Edge, path: str) -> None:
    plain = await send(edge, BODIES[path], path, **{"content-encoding": "identity"})
    edge.reset()
    answer = await send(edge, gzip.compress(BODIES[path]), path)
    assert plain.status_code == answer.status_code < 300
    assert answer.json() | {"request_id": ""} == plain.json() | {"request_id": ""}


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, LIMIT - 1, LIMIT])
@pytest.mark.parametrize("kind", ["noise", "zeros"])
async def test_any_content_up_to_the_limit_comes_out_whole(size: int, kind: str) -> None:
    content = random.Random(size).randbytes(size) if kind == "noise" else bytes(size)
    assert await inflated(gzip.compress(content), LIMIT, turns()) == content


async def test_a_bomb_is_refused_at_the_limit(edge: Edge) -> None:
    bomb = gzip.compress(bytes(32 * LIMIT))
    assert len(bomb) < LIMIT
    tracemalloc.start()
    with pytest.raises(TooLarge):
        await inflated(bomb, LIMIT, turns())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * LIMIT
    answer = await send(edge, bomb)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert (await send(edge, GOOD, **{"content-encoding": "identity"})).status_code == 200


async def test_a_stream_that_is_one_byte_too_long_is_refused() -> None:
    with pytest.raises(TooLarge):
        await inflated(gzip.compress(bytes(LIMIT + 1)), LIMIT, turns())


WHOLE = gzip.compress(GOOD)
BROKEN = {
    "plain": GOOD,
    "empty": b"",
    "cut": WHOLE[:-1],
    "cut in the header": WHOLE[:9],
    "wrong checksum": WHOLE[:-8] + b"\0\0\0\0" + WHOLE[-4:],
    "wrong length": WHOLE[:-4] + b"\0\0\0\0",
    "more behind": WHOLE + b"x",
    "two streams": WHOLE + WHOLE,
    "zlib instead": zlib.compress(GOOD),
    "raw deflate": zlib.compress(GOOD)[2:-4],
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_stream_is_refused(edge: Edge, name: str) -> None:
    with pytest.raises(Malformed):
        await inflated(BROKEN[name], LIMIT, turns())
    answer = await send(edge, BROKEN[name])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("coding", ["deflate", "br", "gzip, gzip", "zstd", "compress", "identity, gzip", ""])
async def test_another_coding_is_refused_and_the_answer_names_the_right_one(edge: Edge, coding: str) -> None:
    answer = await send(edge, WHOLE, **{"content-encoding": coding})
    assert (answer.status_code, answer.json()["error"]["field"]) == (415, "Content-Encoding")
    assert answer.headers["accept-encoding"] == "gzip"


async def test_a_coding_may_be_spelt_in_any_case_or_as_it_once_was(edge: Edge) -> None:
    for coding in ("GZIP", " gzip ", "x-gzip"):
        assert (await send(edge, WHOLE, **{"content-encoding": coding})).status_code == 200


async def test_a_body_that_is_not_json_is_refused_before_it_is_inflated(edge: Edge) -> None:
    answer = await send(edge, b"no gzip at all", **{"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (415, "Content-Type")
    assert "accept-encoding" not in answer.headers


async def test_a_full_service_refuses_before_it_inflates(edge: Edge) -> None:
    gate = edge.runtime.admission.rankings
    entered = 0
    while gate.enter():
        entered += 1
    try:
        assert (await send(edge, b"no gzip at all")).status_code == 429
    finally:
        for _ in range(entered):
            gate.leave(0.0)


async def test_a_stream_takes_a_turn_for_every_piece() -> None:
    taken = 0

    class Counted(Turns):
        async def take(self) -> None:
            nonlocal taken
            taken += 1
            await super().take()

    slow = zlib.compressobj(9, zlib.DEFLATED, 31)
    empty_blocks = slow.compress(b"x") + b"".join(slow.flush(zlib.Z_FULL_FLUSH) for _ in range(2)) + slow.flush()
    assert await inflated(empty_blocks, LIMIT, Counted(lambda: False)) == b"x"
    assert taken <= 2
    taken = 0
    content = random.Random(1).randbytes(LIMIT // 2)
    await inflated(gzip.compress(content), LIMIT, Counted(lambda: False))
    assert taken >= len(content) // 8_192
