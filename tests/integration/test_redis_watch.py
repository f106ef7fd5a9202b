"""Checks of real servers: each setup problem is logged once, and evictions are counted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from contract.behaviours.records import MAX_PLAY_MS
from contract.events.activity import MAX_CLOCK_ERROR_MS, ActivityReport, activity_event
from contract.events.exposures import Exposure
from contract.events.streams import ACTIVITY_STREAM, EXPOSURE_STREAM
from service.redis.client import make_client
from service.redis.watch import EVENT_BYTES, Instance, RedisWatch, problems, ranking_log_bytes
from service.settings.ranking_log import RankingLogSettings
from service.settings.streams import StreamsSettings
from tests.support.redis_server import RedisServer, free_port
from tests.support.redis_topology import ask, cluster, until_true

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

GOOD = ("--maxmemory", "800mb", "--appendonly", "yes")
NOW_MS = 1_700_000_000_000
STREAMS = Instance("streams", None, False, keeps_behaviours=False, keeps_streams=True)  # type: ignore[arg-type]
Make = Callable[..., RedisServer]


class Counts:
    def __init__(self) -> None:
        self.evicted: Counter[str] = Counter()
        self.memory: dict[str, float] = {}

    def redis_evicted(self, redis: str, count: int) -> None:
        self.evicted[redis] += count

    def redis_memory(self, redis: str, ratio: float) -> None:
        self.memory[redis] = ratio


@pytest.fixture
def make_server() -> Iterator[Make]:
    made: list[RedisServer] = []

    def make(*arguments: str, port: int = 0) -> RedisServer:
        made.append(RedisServer(port=port, arguments=arguments).start())
        return made[-1]

    yield make
    for server in made:
        server.close()


@asynccontextmanager
async def watching(
    behaviours: str, streams: str | None, *, max_length: int = StreamsSettings().max_length
) -> AsyncIterator[tuple[Callable[[], Any], Counts]]:
    """Yield what looks once at each server and returns the problems that were logged."""
    counts = Counts()
    instances = [
        Instance(name, make_client(url, timeout_seconds=5), "cluster" in url, name == "behaviours", keeps_streams)
        for name, url, keeps_streams in (("behaviours", behaviours, streams is None), ("streams", streams, True))
        if url is not None
    ]
    watch = RedisWatch(instances, max_length, counts)

    async def look() -> list[tuple[str, str]]:
        with capture_logs() as logs:
            for instance in instances:
                await watch.look(instance)
        return [(line["redis"], line["problem"]) for line in logs if line["event"] == "redis_setup"]

    yield look, counts
    for instance in instances:
        await instance.client.aclose()


async def test_servers_that_are_set_up_well_are_not_complained_of(make_server: Make) -> None:
    behaviours = make_server(*GOOD, "--maxmemory-policy", "volatile-ttl")
    streams = make_server(*GOOD, "--maxmemory-policy", "noeviction")
    async with watching(behaviours.url, streams.url) as (look, counts):
        assert await look() == []
    assert 0 < counts.memory["streams"] < 0.1


async def test_each_problem_is_said_plainly_and_once(make_server: Make) -> None:
    behaviours = make_server()
    streams = make_server("--maxmemory", "24mb", "--maxmemory-policy", "allkeys-lru")
    async with watching(behaviours.url, streams.url) as (look, _):
        said = await look()
        assert await look() == []
    expected = [
        ("behaviours", "maxmemory is not set"),
        ("behaviours", "appendonly is off"),
        ("streams", "appendonly is off"),
        ("streams", "two streams of 400000 events need up to 824 MB and maxmemory is 25 MB"),
        ("streams", "maxmemory-policy is allkeys-lru, which evicts whole streams"),
    ]
    assert [(name, problem.startswith(start)) for (name, problem), (_, start) in zip(said, expected, strict=True)] == [
        (name, True) for name, _ in expected
    ]


async def test_a_shared_server_is_a_problem_however_it_is_named(make_server: Make) -> None:
    server = make_server(*GOOD, port=free_port())
    async with watching(server.url, None) as (look, _):
        [(name, problem)] = await look()
        assert name == "behaviours"
        assert "share the behaviours' server" in problem
        assert "RANKER_STREAMS__URL" in problem
    async with watching(server.url, f"redis://127.0.0.1:{server.port}") as (look, _):
        [(name, problem)] = await look()
        assert name == "streams"
        assert problem.startswith("this is also the server of the behaviours")


async def test_evictions_are_counted_from_the_first_look_on(make_server: Make) -> None:
    server = make_server(*GOOD)
    server.call("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    async with watching(server.url, None) as (look, counts):
        await look()
        assert counts.evicted == {}
        for user in range(50):
            server.call("SET", f"bhv:{{{user}}}", b"x" * 20_000, "EX", "1000")
        server.call("CONFIG", "SET", "maxmemory", "1400000")
        await look()
        keys = int(server.call("DBSIZE")[1:])
    assert counts.evicted["behaviours"] == 50 - keys > 0


async def test_a_server_that_started_again_is_looked_at_anew(own_redis: RedisServer) -> None:
    async with watching(own_redis.url, None) as (look, counts):
        first = await look()
        own_redis.kill()
        assert await look() == []
        own_redis.start()
        async with asyncio.timeout(60):
            while not (again := await look()):  # noqa: ASYNC110 - until the client's breaker asks again
                await asyncio.sleep(0.05)
    assert again == first
    assert counts.evicted["behaviours"] == 0


async def test_without_the_right_to_info_that_is_said_once(make_server: Make) -> None:
    server = make_server(*GOOD)
    server.call("ACL", "SETUSER", "ranker", "on", ">pw", "~bhv:*", "+getrange")
    async with watching(f"unix://ranker:pw@{server.socket}", None) as (look, counts):
        [(_, problem)] = await look()
        assert "+info" in problem
        assert await look() == []
    assert counts.evicted == {}


async def test_the_ranking_log_counts_towards_the_memory_and_its_rankings_are_as_large_as_assumed(
    make_server: Make,
) -> None:
    server = make_server(*GOOD)
    longest = [f"{place:0128d}" for place in range(20)]
    event = {
        "v": 1, "id": "0" * 26, "ts": NOW_MS, "req": longest[0], "unit": longest[0], "model": "pyramid_mixer",
        "ver": "1", "outcome": "ok", "reasons": [], "latency_us": 10_000, "n_cand": 200, "k": 200, "items": longest,
        "arms": [{"layer": "rank", "exp": "pyramid-vs-mgnm", "arm": "treatment", "forced": 0}],
        "scores": [0.12345600128173828] * 20, "attributes": None,
    }  # fmt: skip
    for _ in range(1_000):
        server.call("XADD", "log", "*", "event", json.dumps(event, separators=(",", ":")))
    used = int(server.call("MEMORY", "USAGE", "log", "SAMPLES", "0")[1:])
    most = ranking_log_bytes(RankingLogSettings(share=1, max_length=1_000))
    assert 0.9 * most < used < 1.05 * most
    [problem] = problems({"maxmemory": "824000000", "aof_enabled": "1"}, STREAMS, 400_000, most)
    assert "and the ranking log (3 MB) need up to 827 MB" in problem
    assert problems({"maxmemory": "828000000", "aof_enabled": "1"}, STREAMS, 400_000, most) == []


@pytest.mark.parametrize("stream", [EXPOSURE_STREAM, ACTIVITY_STREAM])
async def test_no_event_of_a_stream_is_larger_in_redis_than_assumed(make_server: Make, stream: str) -> None:
    """Redis packs the ids of events, which are times, so it depends on the time between them."""
    server = make_server(*GOOD)
    largest = largest_exposure if stream == EXPOSURE_STREAM else largest_activity
    sizes = []
    for gap_ms in (0, 1, 3, 10, 30, 60, 127, 128, 300, 1_000, 8_000, 100_000, 3_000_000):
        server.call("DEL", stream)
        for number in range(300):
            event_id = f"{NOW_MS + gap_ms * number}-{0 if gap_ms else number + 1}"
            server.call("XADD", stream, event_id, "event", largest(number))
        sizes.append(int(server.call("MEMORY", "USAGE", stream, "SAMPLES", "0")[1:]) / 300)
    assert 0.95 * EVENT_BYTES[stream] < max(sizes) <= EVENT_BYTES[stream], sizes


def largest_exposure(number: int) -> bytes:
    longest = f"{number:0128d}"
    exposure = Exposure(
        id="0" * 26, ts=NOW_MS, req=longest, unit_type="user_id", unit=longest, layer="rank", exp="pyramid-vs-mgnm",
        arm="treatment", reason="split", slot=999, armb=9_999, cfg="0" * 12, exp_salt="pyramid-vs-mgnm.1", forced=0,
        model="pyramid_mixer", ver="1", served_model="pyramid_mixer", served_ver="1", outcome="degraded", k=2_000,
        n_cand=2_000,
    )  # fmt: skip
    return exposure.model_dump_json().encode()


def largest_activity(number: int) -> bytes:
    """Return an event with every field that a caller may send, and a clock that is wrong by more than a day."""
    ids = ("user_id", "event_id", "item_id", "author_id", "device_id", "view_id", "request_id")
    report: Any = {
        **dict.fromkeys(ids, f"{number:0128d}"), "type": "play_start", "ts": NOW_MS - 2 * MAX_CLOCK_ERROR_MS,
        "play_ms": MAX_PLAY_MS, "duration_ms": MAX_PLAY_MS, "tz_offset": -720, "value": 25.5,
    }  # fmt: skip
    assert report.keys() == ActivityReport.__annotations__.keys()
    return orjson.dumps(activity_event(report, "0" * 26, NOW_MS, lambda person: person))


@pytest.mark.slow
async def test_every_primary_of_a_cluster_is_looked_at() -> None:
    with cluster(3) as nodes:
        await until_true(nodes.is_whole)
        async with watching(nodes.url(), None) as (look, counts):
            said = await look()
            assert len([problem for _, problem in said if problem.startswith("maxmemory is not set")]) == 3
            for node in nodes.nodes:
                node.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
                for place in range(300):
                    node.call("SET", f"{place}", b"x" * 5_000, "EX", "1000")  # those of other nodes are refused
                node.call("CONFIG", "SET", "maxmemory", "1")
            await look()
        evicted = sum(int(ask(node.port, "INFO", "stats")["evicted_keys"]) for node in nodes.nodes)
        assert counts.evicted["behaviours"] == evicted > 0
