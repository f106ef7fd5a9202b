from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from redis import exceptions as errors

from contract.behaviours.records import Records, Unpacked, item_keys, pack, records_from_columns, unpack
from service.names import StoreState
from service.redis.client import Command
from service.redis.errors import Busy, LeftAlone, NoServer, Unconfirmed
from service.store import behaviours as behaviours_module
from service.store.behaviours import AppendResult, RedisBehaviourStore, StoreUnavailable
from tests.support.fakes import TaskCounts

pytestmark = pytest.mark.anyio

WRONG_TYPE = errors.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class Observer(TaskCounts):
    def __init__(self) -> None:
        super().__init__()
        self.errors: Counter[str] = Counter()

    def store_error(self, kind: str) -> None:
        self.errors[kind] += 1


class FakeClient:
    """Answers every command with `reply`, as a client does: an error replaces a reply."""

    def __init__(self, reply: object = b"") -> None:
        self.reply = reply
        self.calls: list[list[Command]] = []
        self.closed = False

    def begin(self, commands: Sequence[Command], done: Callable[[list[Any]], None]) -> bool:
        return False

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        self.calls.append(list(commands))
        return list(self.reply) if isinstance(self.reply, list) else [self.reply] * len(commands)

    def state(self) -> StoreState:
        return StoreState(is_up=True, open_breakers=0)

    async def aclose(self) -> None:
        self.closed = True


class Rig:
    def __init__(self, reply: object = b"", written: object = (1, 0, 0), known_bytes: int = 0) -> None:
        self.reads, self.writes = FakeClient(reply), FakeClient(written)
        self.observer = Observer()
        self.store = RedisBehaviourStore(
            self.reads, self.writes, read_length=3, max_length=10, ttl_seconds=60, observer=self.observer,
            known_bytes=known_bytes,
        )  # fmt: skip


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
        (errors.ReadOnlyError(), "wrong_server"),
        (errors.ClusterDownError("CLUSTERDOWN"), "wrong_server"),
        (errors.ResponseError("UNBLOCKED force"), "wrong_server"),
        (Busy(), "busy"),
        (Unconfirmed(), "unconfirmed"),
        (NoServer(), "connection"),
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


@pytest.mark.parametrize("reply", [[None, 7], ["text", {}], [b"x", 1.5]])
async def test_reply_of_another_shape_never_raises(reply: list[object]) -> None:
    stored = await Rig(reply).store.read(["a", "b"])
    assert [len(one.records) for one in stored] == [0, 0]


async def test_a_value_that_has_not_changed_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counted(values: Sequence[bytes | None]) -> Unpacked:
        decoded.append(len(values))
        return unpack(values)

    monkeypatch.setattr(behaviours_module, "unpack", counted)
    old, new, long = pack(records(1)), pack(records(2)), pack(records(4))
    rig = Rig(known_bytes=2**20)
    batches: list[list[Any]] = [[old, old, long], [long, WRONG_TYPE, old], [new, old, b""], [new, None, b""]]
    for replies in batches:
        rig.reads.reply = replies
        found = await rig.store.read(["a", "b", "c"])
        for reply, stored in zip(replies, found, strict=True):
            assert stored.records.tobytes() == (reply[-72:] if isinstance(reply, bytes) else b"")
            assert (stored.status == "wrong_type", stored.truncated) == (reply is WRONG_TYPE, reply is long)
    assert decoded == [3, 1, 2, 1]
    assert rig.observer.errors == {"wrong_type": 1}


async def test_server_that_is_left_alone_counts_no_errors() -> None:
    rig = Rig(LeftAlone())
    assert [stored.status for stored in await rig.store.read(["a", "b"])] == ["unavailable"] * 2
    assert not rig.observer.errors


async def test_closing_lets_go_of_both_clients() -> None:
    rig = Rig()
    await rig.store.close()
    assert rig.reads.closed
    assert rig.writes.closed


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
