from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from service.redis_client import Command
from service.streams import EventStream

pytestmark = pytest.mark.anyio

OOM = ResponseError("OOM command not allowed when used memory > 'maxmemory'.")


class Drops(Counter[tuple[str, ...]]):
    def __call__(self, labels: tuple[str, ...]) -> None:
        self[labels] += 1


class FakeClient:
    """Takes commands; `faults` are met first: an exception for a whole batch, or its replies."""

    def __init__(self, *faults: Exception | list[Any]) -> None:
        self.faults = list(faults)
        self.batches: list[list[bytes]] = []

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        await asyncio.sleep(0)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        self.batches.append([bytes(command.words[-1]) for command in commands])  # type: ignore[arg-type]
        return fault or [b"1-1"] * len(commands)

    async def aclose(self) -> None:
        """Hold nothing."""


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the condition is another task's
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.streams._RETRY_SECONDS", (0,))


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


async def test_event_that_is_refused_alone_is_dropped_and_counted() -> None:
    client, drops = FakeClient([b"1-1", OOM, b"1-2"]), Drops()
    stream = EventStream(client, "s", on_drop=drops, interval_seconds=0)
    for label in "abc":
        stream.offer(label.encode(), (label,))
    stream.start()
    await until(lambda: len(stream) == 0)
    await stream.close()
    assert drops == {("b",): 1}
    assert client.batches == [[b"a", b"b", b"c"]]


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
