from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from redis import exceptions as errors

from contract.behaviours import Records, item_keys, pack, records_from_columns
from service.behaviours import AppendResult, RedisBehaviourStore, StoreUnavailable
from service.breaker import Breaker
from service.redis_client import Command
from tests.fakes import TaskCounts

pytestmark = pytest.mark.anyio

WRONG_TYPE = errors.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Observer(TaskCounts):
    def __init__(self) -> None:
        super().__init__()
        self.errors: Counter[str] = Counter()
        self.states: list[tuple[bool, bool]] = []

    def store_error(self, kind: str) -> None:
        self.errors[kind] += 1

    def store_state(self, *, up: bool, breaker_open: bool) -> None:
        self.states.append((up, breaker_open))


class FakeClient:
    """Answers every command with `reply`; an exception there is raised, and "hang" never answers."""

    def __init__(self, reply: object = b"") -> None:
        self.reply = reply
        self.calls: list[list[Command]] = []
        self.closed = False
        self.cancelled = False

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        self.calls.append(list(commands))
        try:
            while self.reply == "hang":  # noqa: ASYNC110 - the test ends it
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self.reply, Exception):
            raise self.reply
        return list(self.reply) if isinstance(self.reply, list) else [self.reply] * len(commands)

    async def aclose(self) -> None:
        self.closed = True


class Rig:
    def __init__(self, reply: object = b"", written: object = (1, 0), timeout_seconds: float = 5.0) -> None:
        self.reads, self.writes = FakeClient(reply), FakeClient(written)
        self.observer, self.clock = Observer(), Clock()
        self.store = RedisBehaviourStore(
            self.reads,
            self.writes,
            read_length=3,
            max_length=10,
            ttl_seconds=60,
            read_timeout_seconds=timeout_seconds,
            write_timeout_seconds=timeout_seconds,
            observer=self.observer,
            breaker=Breaker(failures=2, cool_down_seconds=1, clock=self.clock),
        )


def records(count: int) -> Records:
    places = np.arange(count)
    zeros = np.zeros(count)
    return records_from_columns(
        item_keys(str(place) for place in places), places, np.full(count, 2, np.uint8), places, zeros
    )


async def test_whole_batch_is_one_round_trip_and_bounded_reads() -> None:
    rig = Rig()
    await rig.store.read(["a", "b"])
    assert [[command.words for command in call] for call in rig.reads.calls] == [
        [("GETRANGE", b"bhv:{a}", -96, -1), ("GETRANGE", b"bhv:{b}", -96, -1)]
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.TimeoutError(), "timeout"),
        (TimeoutError(), "timeout"),
        (errors.AuthenticationError(), "auth"),
        (errors.NoPermissionError(), "auth"),
        (errors.BusyLoadingError(), "loading"),
        (errors.ConnectionError(), "connection"),
        (errors.RedisClusterException(), "connection"),
        (errors.SlotNotCoveredError(), "connection"),
        (ConnectionResetError(), "connection"),
        (errors.ReadOnlyError(), "response"),
        (errors.ResponseError("ERR"), "response"),
        (errors.InvalidResponse(), "other"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), "other"),
        (RuntimeError(), "other"),
    ],
)
async def test_whatever_fails_the_read_is_unavailable_and_the_kind_is_counted(error: Exception, kind: str) -> None:
    rig = Rig(error)
    assert [stored.status for stored in await rig.store.read(["a", "b"])] == ["unavailable"] * 2
    assert rig.observer.errors == {kind: 1}
    rig = Rig([error, pack(records(2))])
    first, second = await rig.store.read(["a", "b"])
    assert (first.status, second.status, len(second.records)) == ("unavailable", "ok", 2)
    assert rig.observer.states == [(True, False)]


@pytest.mark.parametrize("reply", [[None, 7], ["text", {}], [b"x", 1.5]])
async def test_reply_of_another_shape_never_raises(reply: list[object]) -> None:
    stored = await Rig(reply).store.read(["a", "b"])
    assert [len(one.records) for one in stored] == [0, 0]


async def test_slow_read_is_given_up_and_not_cancelled() -> None:
    rig = Rig("hang", timeout_seconds=0.01)
    [stored] = await rig.store.read(["a"])
    assert stored.status == "unavailable"
    assert rig.observer.errors == {"timeout": 1}
    rig.reads.reply = b""
    await rig.store.close()
    assert not rig.reads.cancelled
    assert rig.reads.closed
    assert rig.writes.closed


async def test_cancelled_caller_does_not_cancel_the_command() -> None:
    rig = Rig("hang")
    reading = asyncio.create_task(rig.store.read(["a"]))
    while not rig.reads.calls:  # noqa: ASYNC110 - another task's
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not rig.reads.cancelled
    rig.reads.reply = b""
    await rig.store.close()
    assert not rig.reads.cancelled


async def test_open_breaker_asks_nothing_and_a_probe_of_its_own_closes_it() -> None:
    rig = Rig(errors.ConnectionError(), written=b"")
    for _ in range(5):
        await rig.store.read(["a"])
    assert len(rig.reads.calls) == 2
    assert rig.observer.states[-1] == (False, True)
    rig.clock.now = 2
    rig.reads.reply = pack(records(1))
    [stored] = await rig.store.read(["a"])
    assert stored.status == "unavailable"
    while rig.observer.states[-1] != (True, False):  # noqa: ASYNC110 - another task's
        await asyncio.sleep(0)
    assert len(rig.writes.calls) == 1
    [stored] = await rig.store.read(["a"])
    assert (stored.status, len(stored.records)) == ("ok", 1)


async def test_probe_that_fails_leaves_the_breaker_open() -> None:
    rig = Rig(errors.ConnectionError(), written=errors.ConnectionError())
    for _ in range(2):
        await rig.store.read(["a"])
    rig.clock.now = 2
    await rig.store.read(["a"])
    await rig.store.close()
    assert rig.observer.states[-1] == (False, True)
    assert len(rig.writes.calls) == 1


async def test_append_says_what_became_of_each_user() -> None:
    rig = Rig(written=[[2, 1, 0], WRONG_TYPE, errors.OutOfMemoryError()])
    results = await rig.store.append({user: records(3) for user in "abc"})
    assert results == {
        "a": AppendResult(stored=2, repeated=1),
        "b": AppendResult(error="wrong_type"),
        "c": AppendResult(error="unavailable"),
    }
    assert rig.observer.errors == {"wrong_type": 1, "response": 1}


@pytest.mark.parametrize("reply", [errors.ConnectionError(), [errors.OutOfMemoryError()], RuntimeError()])
async def test_append_that_stored_nothing_for_anybody_is_unavailable(reply: object) -> None:
    with pytest.raises(StoreUnavailable):
        await Rig(written=reply).store.append({"a": records(1)})


async def test_wrong_type_alone_is_an_answer_and_not_an_outage() -> None:
    rig = Rig(written=[WRONG_TYPE])
    assert await rig.store.append({"a": records(1)}) == {"a": AppendResult(error="wrong_type")}


async def test_appending_nothing_asks_nothing() -> None:
    rig = Rig()
    assert await rig.store.append({}) == {}
    assert not rig.writes.calls


async def test_ping_says_whether_a_read_is_answered() -> None:
    assert await Rig(written=b"").store.ping()
    assert not await Rig(written=errors.ConnectionError()).store.ping()
    assert not await Rig(written=[errors.ResponseError("LOADING")]).store.ping()


class LateClient(FakeClient):
    """Answers some turns of the event loop later, as a socket does that has not been looked at for a while."""

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        for _ in range(4):
            await asyncio.sleep(0)
        return [b"" for _ in commands]


async def test_a_reply_that_a_busy_loop_has_not_seen_yet_is_no_timeout() -> None:
    late, observer = LateClient(), Observer()
    store = RedisBehaviourStore(
        late, late, read_length=3, max_length=10, ttl_seconds=60,
        read_timeout_seconds=0.0, write_timeout_seconds=0.0, observer=observer,
    )  # fmt: skip
    [stored] = await store.read(["u"])
    assert stored.status == "ok"
