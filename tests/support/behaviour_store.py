"""A behaviour store before a real Redis, and records to put into it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from contract.behaviours.records import Records, item_keys, records_from_columns
from service.bundles.bundle import Bundle
from service.flow.breaker import Breaker
from service.redis.client import Client, Confirmation, make_client
from service.store.behaviours import RedisBehaviourStore
from tests.support.fakes import TaskCounts
from tests.support.redis_server import RedisServer

READ_SECONDS = 10.0  # generous, since other tests share the cores; what is asserted is never a duration
FROZEN_READ_SECONDS = 0.25  # where Redis does not answer
WRITE_SECONDS = 2.0  # a share of it is the wait for a replica, which some tests take away
MAX_LENGTH = 40


class Observer(TaskCounts):
    """Counts what the store reports."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: Counter[str] = Counter()
        self.trimmed: Counter[str] = Counter()
        self.unconfirmed = 0
        self.clients: tuple[Client, ...] = ()  # for reads and for writes

    @property
    def up(self) -> bool:
        return self.clients[0].state().is_up

    @property
    def breaker_open(self) -> bool:
        return any(client.state().open_breakers for client in self.clients)

    def store_error(self, kind: str) -> None:
        self.errors[kind] += 1

    def store_unconfirmed(self) -> None:
        self.unconfirmed += 1

    def behaviours_trimmed(self, *, usable: int, other: int) -> None:
        self.trimmed.update(usable=usable, other=other)


def quick_breaker(cool_down_seconds: float = 0.01) -> Breaker:
    """Make a breaker that opens at the second failure, however soon it comes."""
    return Breaker(
        failures=2, lasting_seconds=0, cool_down_seconds=cool_down_seconds, max_cool_down_seconds=cool_down_seconds
    )


@dataclass(frozen=True)
class OpenStore:
    """A store, and what to watch it by."""

    store: RedisBehaviourStore
    observer: Observer
    reads: Client
    writes: Client


@asynccontextmanager
async def open_rig(
    url: str,
    *,
    read_seconds: float = READ_SECONDS,
    write_seconds: float = WRITE_SECONDS,
    breaker: Callable[[], Breaker] = Breaker,
    read_length: int = 20,
    ttl_seconds: int = 0,
    served: Callable[[], Sequence[Bundle]] = tuple,
    prefix: str = "",
) -> AsyncIterator[OpenStore]:
    observer = Observer()
    reads = make_client(url, timeout_seconds=read_seconds, breaker=breaker)
    writes = make_client(
        url, timeout_seconds=write_seconds, breaker=breaker, confirmation=Confirmation(observer.store_unconfirmed)
    )
    observer.clients = (reads, writes)
    store = RedisBehaviourStore(
        reads, writes, read_length=read_length, max_length=MAX_LENGTH, ttl_seconds=ttl_seconds, observer=observer,
        served=served,
        prefix=prefix,
        known_bytes=2**20,
    )  # fmt: skip
    try:
        yield OpenStore(store, observer, reads, writes)
    finally:
        await store.close()


@asynccontextmanager
async def open_store(
    server: RedisServer,
    *,
    read_length: int = 20,
    ttl_seconds: int = 0,
    served: Callable[[], Sequence[Bundle]] = tuple,
    prefix: str = "",
    read_seconds: float = READ_SECONDS,
) -> AsyncIterator[tuple[RedisBehaviourStore, Observer]]:
    async with open_rig(
        server.url,
        breaker=quick_breaker,
        read_seconds=read_seconds,
        read_length=read_length,
        ttl_seconds=ttl_seconds,
        served=served,
        prefix=prefix,
    ) as rig:
        yield rig.store, rig.observer


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
