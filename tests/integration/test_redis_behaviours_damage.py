"""Stored behaviours whose bytes somebody damaged: good records are read, bad ones counted, nothing raises."""

from __future__ import annotations

import numpy as np
import pytest

from contract.behaviours.records import RECORD_BYTES, pack
from service.store.behaviours import AppendResult
from tests.support.behaviour_store import (
    key,
    open_store,
    records,
)
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


def _corruptions() -> list[tuple[str, bytes]]:
    """Return thirty kinds of damage to a history of ten records, each seeded."""
    rng = np.random.default_rng(11)
    good = pack(records(10))
    half = len(good) // 2
    noise = rng.bytes(len(good))
    flipped = bytes(octet ^ 0x10 if place % RECORD_BYTES == 3 else octet for place, octet in enumerate(good))
    kinds = {
        "one byte": b"\x00",
        "23 bytes": good[:23],
        "25 bytes": good[:25],
        "zeros": bytes(240),
        "ones": b"\xff" * 240,
        "noise": noise,
        "noise, torn": noise[:-5],
        "long noise": rng.bytes(5000),
        "text": b"hello, world " * 9,
        "bad UTF-8": b"\xc3\x28\xa0\xa1" * 30,
        "NULs inside": good[:60] + bytes(60) + good[60:],
        "JSON": b'[{"item":"1","ts":1}]' * 4,
        "nested JSON": b"[" * 500 + b"]" * 500,
        "number": b"12345678901234567890",
        "NaN": b"NaN" * 16,
        "pickle": b"\x80\x04\x95" + noise[:50],
        "gzip": b"\x1f\x8b\x08\x00" + noise[:80],
        "RESP": b"*3\r\n$3\r\nSET\r\n" * 4,
        "torn head": good[7:],
        "torn tail": good[:-7],
        "torn twice": good[7:-7],
        "torn inside": good[: half - 5] + good[half:],
        "byte put in": good[:half] + b"!" + good[half:],
        "byte lost": good[:half] + good[half + 1 :],
        "halves swapped, torn": good[half + 3 :] + good[: half + 3],
        "bit in every record": flipped,
        "reversed": good[::-1],
        "twice": good + good,
        "upper half noise": good[:half] + noise[half:],
        "lower half noise": noise[:half] + good[half:],
        "big-endian": np.frombuffer(good, "<u8").byteswap().tobytes(),
        "action 0": b"".join(_with(record, 20, 0) for record in _split(good)),
        "action 255": b"".join(_with(record, 20, 255) for record in _split(good)),
        "year 584 million": b"".join(_with(record, 15, 255) for record in _split(good)),
    }
    return list(kinds.items())


def _split(content: bytes) -> list[bytes]:
    return [content[start : start + RECORD_BYTES] for start in range(0, len(content), RECORD_BYTES)]


def _with(record: bytes, place: int, octet: int) -> bytes:
    return record[:place] + bytes([octet]) + record[place + 1 :]


async def test_damaged_values_of_thirty_kinds_lose_bad_records_and_nothing_else(redis_server: RedisServer) -> None:
    kinds = _corruptions()
    assert len(kinds) >= 30
    good = {bytes(record) for record in _split(pack(records(10)))}
    async with open_store(redis_server, read_length=300) as (store, observer):
        for name, content in kinds:
            redis_server.call("SET", key(name), content)
        stored = await store.read([*(name for name, _ in kinds), "unharmed"])
        for (name, content), one in zip(kinds, stored, strict=False):
            read = _split(one.records.tobytes())
            assert set(read) <= good, name
            assert one.corrupt == -(-len(content) // RECORD_BYTES) - len(read), name
        by_name = {name: len(one.records) for (name, _), one in zip(kinds, stored, strict=False)}
        # And each of them takes appends again.
        results = await store.append({name: records(1, first=500) for name, _ in kinds})
        assert set(results.values()) == {AppendResult(stored=1)}
        after = await store.read([name for name, _ in kinds])
        assert all(one.records.tobytes().endswith(pack(records(1, first=500))) for one in after)
    kept = {
        "torn head": 9,
        "torn tail": 9,
        "torn twice": 8,
        "torn inside": 9,
        "byte put in": 10,
        "byte lost": 9,
        "twice": 20,
    }
    assert {name: by_name[name] for name in kept} == kept
    assert by_name["bit in every record"] == by_name["noise"] == by_name["action 0"] == 0
    assert not observer.errors
