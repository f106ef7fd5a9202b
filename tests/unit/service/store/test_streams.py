from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from service.redis.client import Command
from service.store.streams import Entry, EventStream, Receipt

pytestmark = pytest.mark.anyio

OOM = ResponseError("OOM command not allowed when used memory > 'maxmemory'.")


WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class Drops(Counter[tuple[str, ...]]):
    def __call__(self, labels: tuple[str, ...]) -> None:
        self[labels] += 1


class FakeClient:
    """Takes commands; `faults` are met first: an exception for a whole batch, or its replies."""

    def __init__(self, *faults: Exception | list[Any]) -> None:
        self.faults = list(faults)
        self.batches: list[list[bytes]] = []
        self.trims: object = 0

    def begin(self, commands: Sequence[Command], done: Callable[[list[Any]], None]) -> bool:
        return False

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        await asyncio.sleep(0)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        *added, trim = commands
        assert trim.words[0] == "XTRIM"
        self.batches.append([bytes(command.words[-1]) for command in added])  # type: ignore[arg-type]
        return [*(fault or [b"1-1"] * len(added)), self.trims]

    async def aclose(self) -> None:
        """Hold nothing."""


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the condition is another task's
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.streams._RETRY_SECONDS", (0,))


async def test_no_batch_is_larger_than_the_limit() -> None:
    client = FakeClient()
    stream = EventStream(client, "s", on_drop=Drops(), max_batch=4, interval_seconds=0)
    for place in range(10):
        stream.offer(b"%d" % place)
    stream.start()
    await until(lambda: len(stream) == 0)
    await stream.close()
    assert [len(batch) for batch in client.batches] == [4, 4, 2]
    assert [event for batch in client.batches for event in batch] == [b"%d" % place for place in range(10)]


async def test_batch_that_failed_is_written_again_and_nothing_is_dropped() -> None:
    client, drops = FakeClient(RedisConnectionError(), OSError(), RuntimeError(), [OOM, OOM]), Drops()
    stream = EventStream(client, "s", on_drop=drops, interval_seconds=0)
    stream.offer(b"a")
    stream.offer(b"b")
    stream.start()
    await until(lambda: len(stream) == 0)
    await stream.close()
    assert client.batches[-1] == [b"a", b"b"]
    assert not drops


async def test_an_event_that_is_refused_for_now_is_written_again_in_its_place() -> None:
    client, drops = FakeClient([b"1-1", OOM, b"1-2", OOM]), Drops()
    stream = EventStream(client, "s", on_drop=drops, interval_seconds=0, max_batch=4)
    for label in "abcde":
        stream.offer(label.encode(), (label,))
    stream.start()
    await until(lambda: len(stream) == 0)
    await stream.close()
    assert client.batches == [[b"a", b"b", b"c", b"d"], [b"b", b"d", b"e"]]
    assert not drops


async def test_an_event_that_will_never_be_taken_is_dropped_and_counted() -> None:
    client, drops = FakeClient([WRONG_TYPE, b"1-2"]), Drops()
    stream = EventStream(client, "s", on_drop=drops, interval_seconds=0)
    for label in "ab":
        stream.offer(label.encode(), (label,))
    stream.start()
    await until(lambda: len(stream) == 0)
    await stream.close()
    assert drops == {("a",): 1}


async def test_what_a_trim_costs_is_counted_and_a_refused_trim_costs_no_event() -> None:
    client, trims, drops = FakeClient(), list[int](), Drops()
    stream = EventStream(client, "s", on_drop=drops, on_trim=trims.append, interval_seconds=0, max_batch=1)
    for trimmed in (7, 0, NoPermissionError("NOPERM")):
        client.trims = trimmed
        stream.offer(b"x")
        if len(client.batches) == 0:
            stream.start()
        await until(lambda: len(stream) == 0)
    await stream.close()
    assert (trims, dict(drops)) == ([7], {})


async def test_a_receipt_is_settled_when_all_events_are_stored_and_does_not_wait_for_company() -> None:
    client = FakeClient(RedisConnectionError(), [b"1-1", OOM])
    stream, receipt = EventStream(client, "s", on_drop=Drops(), interval_seconds=3600), Receipt()
    stream.start()
    await asyncio.sleep(0)
    assert stream.offer(b"a", receipt=receipt)
    assert stream.offer(b"b", receipt=receipt)
    assert await receipt.stored(20)
    assert client.batches == [[b"a", b"b"], [b"b"]]
    await stream.close()


async def test_a_receipt_tells_of_events_that_never_come() -> None:
    lost, late = Receipt(), Receipt()
    stream = EventStream(FakeClient([WRONG_TYPE]), "s", on_drop=Drops(), interval_seconds=0)
    stream.offer(b"a", receipt=lost)
    stream.start()
    assert not await lost.stored(20)
    await stream.close()
    idle = EventStream(FakeClient(), "s", on_drop=Drops())
    idle.offer(b"a", receipt=late)
    assert not await late.stored(0)
    await idle.close()
    assert not await late.stored(20)  # settled: the process ends


async def test_offering_never_waits_and_never_raises_without_a_flusher() -> None:
    drops = Drops()
    stream = EventStream(FakeClient(), "s", on_drop=drops, max_queue=2)
    assert [stream.offer(b"x", ("l",)) for _ in range(4)] == [True, True, False, False]
    await stream.close()
    assert drops == {("l",): 4}


async def test_full_batch_does_not_wait_for_the_interval() -> None:
    client = FakeClient()
    stream = EventStream(client, "s", on_drop=Drops(), max_batch=2, interval_seconds=3600)
    stream.start()
    await asyncio.sleep(0)
    stream.offer(b"a")
    stream.offer(b"b")
    await until(lambda: len(stream) == 0)
    await stream.close()
    assert client.batches == [[b"a", b"b"]]


class Lazy:
    """An event whose bytes are made when they are asked for."""

    def __init__(self, text: bytes | None) -> None:
        self._text, self.asked = text, 0

    def __bytes__(self) -> bytes:
        self.asked += 1
        if self._text is None:
            raise ValueError("not JSON")
        return self._text


async def test_bytes_of_an_event_are_made_once_and_by_the_flusher() -> None:
    client, event = FakeClient(RedisConnectionError()), Lazy(b"a")
    stream = EventStream(client, "s", on_drop=Drops(), interval_seconds=0.001)  # type: ignore[arg-type]
    assert stream.offer(event)
    assert event.asked == 0
    stream.start()
    await until(lambda: bool(client.batches))
    await stream.close()
    assert (client.batches, event.asked) == ([[b"a"]], 1)


async def test_an_event_that_has_no_bytes_is_dropped_and_stops_no_other() -> None:
    client, drops, receipt = FakeClient(), Drops(), Receipt()
    stream = EventStream(client, "s", on_drop=drops, max_batch=2, interval_seconds=0.001)  # type: ignore[arg-type]
    for event in (b"a", Lazy(None), b"b", b"c", Lazy(None)):
        stream.offer(event, ("lazy",) if isinstance(event, Lazy) else (), receipt)
    stream.start()
    assert not await receipt.stored(5)
    await stream.close()
    assert client.batches == [[b"a", b"b"], [b"c"]]
    assert drops == {("lazy",): 2}


async def test_at_the_end_an_event_that_has_no_bytes_keeps_no_other_from_the_spool() -> None:
    saved, drops = [], Drops()

    class Keeps:
        async def save(self, _stream: str, entries: Sequence[Entry]) -> Sequence[Entry]:
            saved.extend(bytes(entry.event) for entry in entries)
            return []

    stream = EventStream(FakeClient(), "s", on_drop=drops, spool=Keeps())  # type: ignore[arg-type]
    for event in (Lazy(b"a"), Lazy(None), Lazy(b"b")):
        stream.offer(event)
    await stream.close()
    assert (saved, drops.total()) == ([b"a", b"b"], 1)
