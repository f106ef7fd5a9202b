"""The shared state of the experiments with real parts: a real Redis, real files, real processes that are killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contract.experiments.history import State, state_from_json, state_to_json
from contract.redis_url.parse import parse_redis_url
from service.experiments.shared_state import SharedState
from service.experiments.state_stores import (
    STATE_KEY,
    FileStateStore,
    RedisStateStore,
    StateStore,
    StateUnavailable,
    read_state_file,
)
from service.redis.client import Client, make_client
from tests.support.experiment_files import NOW_MS, accepted, servable
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 5.0


def first(revision: str = "one") -> State:
    return accepted(None, servable(revision=revision))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
async def client(redis: RedisServer) -> AsyncIterator[Client]:
    made = make_client(parse_redis_url(redis.url), timeout_seconds=SECONDS, max_connections=8)
    yield made
    await made.aclose()


@pytest.fixture(params=["redis", "file"])
def make_store(request: pytest.FixtureRequest, client: Client, tmp_path: Path) -> Callable[[], StateStore]:
    """Return a maker of stores, one for each replica, of the same state."""
    if request.param == "redis":
        return lambda: RedisStateStore(client, STATE_KEY, SECONDS)
    return lambda: FileStateStore(tmp_path / "state.json", SECONDS)


async def test_of_many_replicas_exactly_one_is_first(make_store: Callable[[], StateStore]) -> None:
    stores = [make_store() for _ in range(8)]
    assert [(await store.read()).content for store in stores] == [None] * 8
    outcomes = await asyncio.gather(*[store.swap(None, b"%d" % place) for place, store in enumerate(stores)])
    assert sorted(outcomes) == [False] * 7 + [True]
    winner = b"%d" % outcomes.index(True)
    assert {(await store.read()).content for store in stores} == {winner}
    assert not await stores[0].swap(b"other", b"x")
    assert await stores[0].swap(winner, b"next")
    assert {(await store.read()).content for store in [*stores, make_store()]} == {b"next"}


async def test_replicas_that_judge_at_once_end_with_one_sequence(make_store: Callable[[], StateStore]) -> None:
    async def replica(place: int) -> None:
        shared = SharedState(make_store(), now_ms=lambda: NOW_MS)
        for step in range(3):
            while True:
                await shared.look()
                wanted = accepted(shared.state, servable(revision=f"{place}-{step}"))
                if await shared.commit(wanted):
                    break

    await asyncio.gather(*[replica(place) for place in range(4)])
    shared = SharedState(make_store(), now_ms=lambda: NOW_MS)
    await shared.look()
    assert shared.state is not None
    assert shared.state.revision == 12
    assert len(set(shared.state.digests)) == 12


async def test_key_has_no_time_to_live_so_that_nothing_evicts_it(redis: RedisServer, client: Client) -> None:
    await RedisStateStore(client, STATE_KEY, SECONDS).swap(None, b"x")
    assert redis.call("TTL", STATE_KEY) == b":-1\r\n"


async def test_all_replicas_judge_by_the_clock_of_the_store(client: Client) -> None:
    shared = SharedState(RedisStateStore(client, STATE_KEY, SECONDS), now_ms=lambda: 1_000)
    await shared.look()
    assert abs(shared.now_ms - time.time() * 1000) < 60_000


@pytest.mark.parametrize("value", [b"", b"{", b'{"schema": 9}'])
async def test_damaged_state_is_never_overwritten(redis: RedisServer, client: Client, value: bytes) -> None:
    redis.call("SET", STATE_KEY, value)
    shared = SharedState(RedisStateStore(client, STATE_KEY, SECONDS), now_ms=lambda: NOW_MS)
    with capture_logs() as logs:
        await shared.look()
        await shared.look()
    assert not shared.is_shared
    assert [line["event"] for line in logs] == ["experiments_state_unavailable"]
    assert await shared.commit(first())  # judged by itself, in memory
    assert redis.call("STRLEN", STATE_KEY) == b":%d\r\n" % len(value)


async def test_key_of_another_type_is_unavailable(redis: RedisServer, client: Client) -> None:
    redis.call("LPUSH", STATE_KEY, "x")
    with pytest.raises(StateUnavailable, match="refuses"):
        await RedisStateStore(client, STATE_KEY, SECONDS).read()


async def test_server_that_hangs_costs_the_time_limit_and_no_more(redis: RedisServer, client: Client) -> None:
    store = RedisStateStore(client, STATE_KEY, 0.2)
    await store.read()
    redis.freeze()
    try:
        with pytest.raises(StateUnavailable):
            await store.read()
    finally:
        redis.thaw()


async def test_new_file_waits_while_the_store_is_away(redis: RedisServer, client: Client) -> None:
    shared = SharedState(RedisStateStore(client, STATE_KEY, SECONDS), now_ms=lambda: NOW_MS)
    await shared.look()
    assert await shared.commit(first())
    redis.kill()
    await shared.look()
    with pytest.raises(StateUnavailable, match="waits"):
        await shared.commit(accepted(shared.state, servable(revision="two")))
    assert shared.state is not None
    assert shared.state.revision == 1


async def test_store_that_lost_the_state_gets_it_back_from_any_replica(redis: RedisServer, client: Client) -> None:
    shared = SharedState(RedisStateStore(client, STATE_KEY, SECONDS), now_ms=lambda: NOW_MS)
    await shared.look()
    await shared.commit(first())
    await shared.commit(accepted(shared.state, servable(revision="two")))
    mine = shared.state
    for lose in (lambda: redis.call("DEL", STATE_KEY), lambda: redis.call("SET", STATE_KEY, state_to_json(first()))):
        lose()
        await shared.look()
        assert shared.state == mine
        other = SharedState(RedisStateStore(client, STATE_KEY, SECONDS), now_ms=lambda: NOW_MS)
        await other.look()
        assert other.state == mine


async def test_replica_that_judged_by_itself_follows_the_store_when_it_is_back(
    redis: RedisServer, client: Client
) -> None:
    store = RedisStateStore(client, STATE_KEY, SECONDS)
    redis.kill()
    alone = SharedState(store, now_ms=lambda: NOW_MS)
    await alone.look()
    assert await alone.commit(first("of this replica"))
    assert await alone.commit(accepted(alone.state, servable(revision="and another")))
    redis.start()
    redis.call("SET", STATE_KEY, state_to_json(first("of the others")))
    with capture_logs() as logs:
        await alone.look()
    assert alone.state == first("of the others")
    assert "experiments_state_overruled" in [line["event"] for line in logs]


async def test_replica_that_judged_by_itself_gives_an_empty_store_what_it_accepted(
    redis: RedisServer, client: Client
) -> None:
    store = RedisStateStore(client, STATE_KEY, SECONDS)
    redis.kill()
    alone = SharedState(store, now_ms=lambda: NOW_MS)
    await alone.look()
    await alone.commit(first())
    redis.start()
    await alone.look()
    assert alone.is_shared
    assert state_from_json((await store.read()).content or b"") == first()


async def test_start_while_the_store_is_away_takes_the_copy(redis: RedisServer, client: Client, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    store = RedisStateStore(client, STATE_KEY, SECONDS)
    before = SharedState(store, copy, now_ms=lambda: NOW_MS)
    await before.look()
    await before.commit(first())
    redis.kill()
    after = SharedState(store, copy, now_ms=lambda: NOW_MS)
    await after.look()
    assert after.state == first()
    assert not after.is_shared
    with pytest.raises(StateUnavailable):
        await after.commit(accepted(first(), servable(revision="two")))
    redis.start()  # empty: it gets the state back from the copy
    await after.look()
    assert (await store.read()).content == state_to_json(first())


@pytest.mark.parametrize("content", [b"", b"{", None])
async def test_copy_that_is_damaged_or_missing_is_passed_over(
    client: Client, tmp_path: Path, content: bytes | None
) -> None:
    copy = tmp_path / "copy.json"
    if content is not None:
        copy.write_bytes(content)
    shared = SharedState(RedisStateStore(client, STATE_KEY, SECONDS), copy, now_ms=lambda: NOW_MS)
    await shared.look()
    assert shared.state is None
    assert await shared.commit(first())
    assert copy.read_bytes() == state_to_json(first())


async def test_copy_that_cannot_be_written_stops_nothing(client: Client, tmp_path: Path) -> None:
    copy = tmp_path / "missing" / "copy.json"
    shared = SharedState(RedisStateStore(client, STATE_KEY, SECONDS), copy, now_ms=lambda: NOW_MS)
    await shared.look()
    assert await shared.commit(first())


@contextmanager
def held_lock(path: Path) -> Iterator[None]:
    """Hold the lock from another process."""
    code = (
        "import fcntl,sys,time; f=open(sys.argv[1],'ab'); fcntl.flock(f,fcntl.LOCK_EX); print(1,flush=True);"
        "time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.kill()
        holder.communicate()


async def test_lock_that_another_process_holds_costs_the_time_limit_and_no_more(tmp_path: Path) -> None:
    with held_lock(tmp_path / "state.json.lock"), pytest.raises(StateUnavailable):
        await FileStateStore(tmp_path / "state.json", 0.2).swap(None, b"x")
    store = FileStateStore(tmp_path / "state.json", SECONDS)
    while not await store.swap((await store.read()).content, b"y"):  # the kernel let the lock go
        pass  # to the swap that was given up, which its thread may still do


WRITER = """
import asyncio, sys
from pathlib import Path
from service.experiments.state_stores import FileStateStore
async def main():
    store = FileStateStore(Path(sys.argv[1]), 5.0)
    while True:
        old = (await store.read()).content
        number = int(old.split()[0]) if old else 0
        await store.swap(old, b"%d " % (number + 1) * 20_000)
asyncio.run(main())
"""


def write_and_kill(path: Path, seen: bytes) -> None:
    """Let two processes write, and kill them once the state is another than the one seen."""
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    while (read_state_file(path) or b"") == seen:
        time.sleep(0.01)
    for writer in writers:
        writer.kill()
        writer.communicate()


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
async def test_processes_killed_in_mid_write_leave_a_whole_state_and_no_lock(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "state.json"
    store = FileStateStore(path, SECONDS)
    seen = b""
    for _ in range(kills):
        await asyncio.to_thread(write_and_kill, path, seen)
        written = (await store.read()).content or b""
        numbers = written.split()
        assert (len(numbers), len(set(numbers))) == (20_000, 1)  # whole, and of one writer
        assert int(numbers[0]) > int(seen.split()[0] if seen else 0)
        seen = written
    assert await store.swap(seen, b"still")


async def test_state_is_readable_by_a_person() -> None:
    state = replace(first(), latest={"mgnm": "7"})
    stored = json.loads(state_to_json(state))
    assert stored["document"]["revision"] == "one"
    assert stored["used"]["mgnm-topk"] == {"layer": "rank", "salt": "mgnm-topk-r2"}
