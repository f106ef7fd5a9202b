"""A behaviour store before a real Redis, and records to put into it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np

from contract.behaviours import Records, item_keys, records_from_columns
from service.behaviours import RedisBehaviourStore
from service.breaker import Breaker
from service.bundles import Bundle
from service.redis_client import make_client
from tests.fakes import TaskCounts
from tests.redis_server import RedisServer

READ_SECONDS = 0.25  # generous, since other tests share the cores; what is asserted is never a duration
WRITE_SECONDS = 2.0
MAX_LENGTH = 40


class Observer(TaskCounts):
    """Counts what the store reports."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: Counter[str] = Counter()
        self.up: bool | None = None
        self.breaker_open: bool | None = None
        self.trimmed: Counter[str] = Counter()

    def store_error(self, kind: str) -> None:
        self.errors[kind] += 1

    def behaviours_trimmed(self, *, usable: int, other: int) -> None:
        self.trimmed.update(usable=usable, other=other)

    def store_state(self, *, up: bool, breaker_open: bool) -> None:
        self.up, self.breaker_open = up, breaker_open


@asynccontextmanager
async def open_store(
    server: RedisServer,
    *,
    read_length: int = 20,
    ttl_seconds: int = 0,
    cool_down_seconds: float = 0.01,
    served: Callable[[], Sequence[Bundle]] = tuple,
) -> AsyncIterator[tuple[RedisBehaviourStore, Observer]]:
    observer = Observer()
    store = RedisBehaviourStore(
        make_client(server.url, timeout_seconds=READ_SECONDS),
        make_client(server.url, timeout_seconds=WRITE_SECONDS),
        read_length=read_length,
        max_length=MAX_LENGTH,
        ttl_seconds=ttl_seconds,
        read_timeout_seconds=READ_SECONDS,
        write_timeout_seconds=WRITE_SECONDS,
        observer=observer,
        served=served,
        breaker=Breaker(failures=2, cool_down_seconds=cool_down_seconds, max_cool_down_seconds=0.05),
    )
    try:
        yield store, observer
    finally:
        await store.close()


def records(count: int, *, first: int = 0) -> Records:
    places = np.arange(first, first + count)
    return records_from_columns(
        item_keys(f"item-{place}" for place in places),
        1_765_000_000_000 + places,
        np.full(count, 2, dtype=np.uint8),
        places % 1000,
        np.full(count, 4.5),
    )


def key(user: str) -> str:
    return f"bhv:{{{user}}}"


def stored_bytes(server: RedisServer, user: str) -> bytes:
    reply = server.call("GET", key(user))
    return b"" if reply.startswith(b"$-1") else reply.partition(b"\r\n")[2].removesuffix(b"\r\n")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - the condition is another process's
        await asyncio.sleep(0.005)
