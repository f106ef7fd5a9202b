"""Callers who ask and hang up at random while Redis freezes and dies: each is answered, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

CALLERS, SECONDS = 32, 4.0
DEADLINES = [b"", b"", b"X-Deadline-Ms: 1\r\n", b"X-Deadline-Ms: 5\r\n", b"X-Deadline-Ms: 50\r\n"]


class Caller:
    """Asks over one connection after the other; counts what comes back."""

    def __init__(self, port: int, seed: int, counts: Counter[str]) -> None:
        self._port, self._random, self._counts = port, random.Random(seed), counts

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            for _ in range(self._random.randint(1, 20)):
                if not await self._ask(reader, writer):
                    break
            writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one request or three; say whether the connection is still of use."""
        request, mood = self._request(), self._random.random()
        if mood < 0.1:
            writer.write(request[: self._random.randint(1, len(request))])
            return False
        count = self._random.choice([1, 1, 1, 3])
        writer.write(request * count)
        if mood < 0.15:
            await asyncio.sleep(self._random.random() * 0.005)
            return False
        for _ in range(count):
            self._counts[await self._answer(reader)] += 1
        return True

    def _request(self) -> bytes:
        some = self._random.randint
        body = {"user_id": f"u{some(0, 50)}", "candidates": [f"i{some(1, 25)}" for _ in range(some(1, 20))]}
        content = json.dumps(body).encode()
        head = b"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, self._random.choice(DEADLINES), len(content), content)

    async def _answer(self, reader: asyncio.StreamReader) -> str:
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            await reader.readexactly(
                next(int(one.split(b":")[1]) for one in lines if one.startswith(b"content-length"))
            )
        return head.split()[1].decode()


async def storm(service: ServiceProcess, redis: RedisServer) -> Counter[str]:
    counts: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    callers = [asyncio.create_task(Caller(service.port, seed, counts).run(end)) for seed in range(CALLERS)]
    await asyncio.sleep(SECONDS / 4)
    redis.freeze()
    await asyncio.sleep(SECONDS / 8)
    redis.thaw()
    await asyncio.sleep(SECONDS / 4)
    redis.kill()
    await asyncio.sleep(SECONDS / 8)
    await asyncio.to_thread(redis.start)
    await asyncio.gather(*callers)
    return counts


@pytest.mark.slow
def test_every_caller_is_answered_and_nothing_is_left_behind(own_redis: RedisServer, tmp_path: Path) -> None:
    settings = {"REDIS__READ_TIMEOUT_MS": "20", "LIMITS__DEADLINE_MS": "250", "LIMITS__MAX_DEADLINE_MS": "2000"}
    service = PlainService(tmp_path, own_redis.url, **settings)
    try:
        service.start()
        counts = asyncio.run(storm(service, own_redis))
        assert set(counts) <= {"200", "429", "504"}
        assert counts["200"] > 0
        service.until(lambda: service.metric("ranker_inflight_requests") == 1, "idle: the scrape only")
        lines = [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]
        assert [line for line in lines if line["level"] == "error"] == []
    finally:
        service.close()
