"""Events that Redis never took before the end: kept on the disk, and written by the next process with the same ids."""

from __future__ import annotations

import asyncio
import fcntl
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events.streams import ACTIVITY_STREAM, EVENT_FIELD, RANKING_STREAM
from service.metrics import Metrics
from service.redis.client import Command, make_client
from service.settings.ranking_log import RankingLogSettings
from service.settings.redis import RedisSettings
from service.settings.root import Settings
from service.settings.streams import StreamsSettings
from service.store.replay import Kept, Replay
from service.store.sinks import open_sinks
from service.store.spool import Spool, Spooled, read_batch
from service.store.streams import Entry, EventStream
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

KEY = "test:" + ACTIVITY_STREAM
MEGABYTE = 1_000_000


class Counts:
    def __init__(self) -> None:
        self.replayed: Counter[str] = Counter()
        self.damaged = 0

    def events_replayed(self, stream: str, count: int) -> None:
        self.replayed[stream] += count

    def spool_damaged(self, count: int) -> None:
        self.damaged += count


def entries(count: int, first: int = 0) -> list[Entry]:
    return [Entry(b'{"id":"%d"}' % place, ("exp", "arm")) for place in range(first, first + count)]


def lines_of(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines(keepends=True)]


async def replay(server: RedisServer, spool: Spool, keys: dict[str, str] | None = None) -> Counts:
    counts, client = Counts(), make_client(server.url, timeout_seconds=5)
    try:
        names = {KEY: ACTIVITY_STREAM} if keys is None else keys
        await Replay(spool, client, {key: Kept(name, 100_000) for key, name in names.items()}, counts).run()
    finally:
        await client.aclose()
    return counts


async def stored(server: RedisServer) -> list[bytes]:
    client = make_client(server.url, timeout_seconds=5)
    [found] = await client.run([Command(KEY.encode(), ("XRANGE", KEY, "-", "+"))])
    await client.aclose()
    return [fields[EVENT_FIELD] if isinstance(fields, dict) else fields[1] for _, fields in found]


async def test_what_redis_never_took_is_written_by_the_next_process(own_redis: RedisServer, tmp_path: Path) -> None:
    own_redis.kill()
    spool, drops = Spool(tmp_path / "deep" / "spool", MEGABYTE), list[tuple[str, ...]]()
    client = make_client(own_redis.url, timeout_seconds=0.5)
    stream = EventStream(client, KEY, on_drop=drops.append, spool=spool, interval_seconds=0.001)
    stream.start()
    expected = [entry.event for entry in entries(600)]
    assert all(stream.offer(event, ("exp", "arm")) for event in expected)
    await stream.close(0.05)
    await client.aclose()
    assert drops == []
    assert [path.stat().st_mode & 0o777 for path in spool.files()] == [0o600]
    own_redis.start()
    counts = await replay(own_redis, spool)
    assert await stored(own_redis) == expected
    assert (counts.replayed, counts.damaged) == ({ACTIVITY_STREAM: 600}, 0)
    assert spool.files() == []


async def test_a_replay_keeps_as_many_rankings_as_their_stream_keeps(redis_server: RedisServer, tmp_path: Path) -> None:
    prefix, spool, metrics = "lengths:", Spool(tmp_path, MEGABYTE), Metrics()
    await spool.save(prefix + RANKING_STREAM, entries(300))
    settings = Settings(
        redis=RedisSettings(prefix=prefix),
        streams=StreamsSettings(spool=tmp_path, max_length=1),
        ranking_log=RankingLogSettings(max_length=1_000),
    )
    async with AsyncExitStack() as stack:
        sinks = await open_sinks(settings, make_client(redis_server.url, timeout_seconds=5), metrics, stack)
        sinks.start_replay()
        await until(lambda: not spool.files())
    assert redis_server.call("XLEN", prefix + RANKING_STREAM) == b":300\r\n"


async def test_a_replay_waits_for_redis_and_keeps_the_file_until_then(own_redis: RedisServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    assert await spool.save(KEY, entries(5)) == []
    own_redis.kill()
    running = asyncio.ensure_future(replay(own_redis, spool))
    await asyncio.sleep(0.05)
    assert len(spool.files()) == 1
    own_redis.start()
    assert (await running).replayed == {ACTIVITY_STREAM: 5}
    assert spool.files() == []


async def test_a_replay_that_is_ended_leaves_the_file_for_the_next_one(own_redis: RedisServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    await spool.save(KEY, entries(5))
    own_redis.kill()
    running = asyncio.ensure_future(replay(own_redis, spool))
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait({running})
    own_redis.start()
    assert (await replay(own_redis, spool)).replayed == {ACTIVITY_STREAM: 5}


@pytest.mark.parametrize("damage", ["cut", "flip", "blank", "text", "json", "other key", "no newline", "huge"])
async def test_a_damaged_line_is_skipped_and_counted(redis_server: RedisServer, tmp_path: Path, damage: str) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    await spool.save(KEY, entries(3))
    first, second, third = lines_of(tmp_path)
    damaged = {
        "cut": second[:-20] + b"\n",
        "flip": second.replace(b'\\"1\\"', b'\\"9\\"'),
        "blank": b"\n",
        "text": b"\xff\x00 not json\n",
        "json": b"[1]\n",
        "other key": second.replace(KEY.encode(), b"bhv:{u}"),
        "no newline": second[:30],
        "huge": b"x" * 1_500_000 + b"\n",
    }[damage]
    assert damaged != second
    content = first + third + damaged if damage == "no newline" else first + damaged + third
    spool.files()[0].write_bytes(content)
    counts = await replay(redis_server, spool)
    assert counts.replayed == {ACTIVITY_STREAM: 2}
    assert counts.damaged == (2 if damage == "huge" else 1)
    assert await stored(redis_server) == [entries(3)[0].event, entries(3)[2].event]
    assert spool.files() == []


async def test_a_key_that_holds_something_else_does_not_hold_up_the_rest(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.call("SET", KEY, "text")
    spool = Spool(tmp_path, MEGABYTE)
    await spool.save(KEY, entries(3))
    counts = await replay(redis_server, spool)
    assert (counts.replayed, counts.damaged) == ({}, 3)


async def test_files_of_another_environment_stay(redis_server: RedisServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    await spool.save("staging:" + ACTIVITY_STREAM, entries(3))
    assert (await replay(redis_server, spool)).replayed == {}
    assert len(spool.files()) == 1


async def test_a_file_is_replayed_by_one_process_at_a_time(redis_server: RedisServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    await spool.save(KEY, entries(3))
    with spool.files()[0].open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert (await replay(redis_server, spool)).replayed == {}
    assert (await replay(redis_server, spool)).replayed == {ACTIVITY_STREAM: 3}


async def test_the_spool_is_bounded_and_says_what_it_could_not_keep(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100_000)
    lost = list(await spool.save(KEY, entries(2_000)))
    kept = len(lines_of(tmp_path))
    assert 0 < kept < 2_000
    assert lost == entries(2_000)[kept:]
    assert await spool.save(KEY, entries(300)) == entries(300)  # the folder is full
    assert sum(map(len, lines_of(tmp_path))) <= 100_000
    assert await Spool(tmp_path / "none", 0).save(KEY, entries(1)) == entries(1)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: the write that would meets an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_costs_what_does_not_fit_and_no_more(redis_server: RedisServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path, MEGABYTE)
    with largest_file(100_000):
        lost = list(await spool.save(KEY, entries(2_000)))
    counts = await replay(redis_server, spool)
    assert 0 < len(lost) < 2_000
    assert await stored(redis_server) == [entry.event for entry in entries(2_000 - len(lost))]
    assert counts.damaged == 0


async def test_a_folder_that_cannot_be_used_loses_events_without_ending_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    drops = list[tuple[str, ...]]()
    spool = Spool(tmp_path / "file" / "spool", MEGABYTE)
    assert spool.check()
    client = make_client(f"unix://{tmp_path}/nobody.sock", timeout_seconds=0.1)
    stream = EventStream(client, KEY, on_drop=drops.append, spool=spool)
    stream.offer(b"{}", ("exp", "arm"))
    await stream.close(0)
    await client.aclose()
    assert drops == [("exp", "arm")]


def test_a_folder_is_made_only_when_it_is_needed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a" / "spool", MEGABYTE)
    assert spool.check() == ""
    assert not (tmp_path / "a").exists()
    assert Spool(tmp_path, MEGABYTE).check() == ""
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(st.text(), st.lists(st.text(), max_size=2)), min_size=1, max_size=5))
async def test_every_event_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, texts: list[object]) -> None:
    folder = tmp_path_factory.mktemp("spool")
    kept = [Entry(orjson.dumps(text), tuple(labels)) for text, labels in texts]  # type: ignore[misc]
    await Spool(folder, MEGABYTE).save(KEY, kept)
    [path] = folder.iterdir()
    with path.open("rb") as file:
        assert read_batch(file, 100) == ([Spooled(KEY, entry.event) for entry in kept], 0)
