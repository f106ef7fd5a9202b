"""How much memory Redis needs: `python -m benchmarks.redis_sizes` prints the tables of docs/redis.md.

A real service writes everything through its routes to a real redis-server, as callers would make it; features of items
go through the service's own store. Bytes are differences of `used_memory` divided by the number of entries, so they
include keys, times to live and what the allocator rounds up.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import redis

from benchmarks.load.servers import HOST, Server
from benchmarks.load.sweeps import warm
from benchmarks.load.workload import NOW_MS, read_histories, store
from benchmarks.load.world import World, add_options, world
from contract.command_line import CommandError, run
from contract.events.streams import ACTIVITY_STREAM, EXPOSURE_STREAM, RANKING_STREAM
from service.metrics import Metrics
from service.redis.client import make_client
from service.store.items import ItemStore

LENGTHS: Final = (10, 50, 200, 1_000)
ID_BYTES: Final = (8, 36, 128)
_USERS: Final = 500
_EACH: Final = 10  # behaviours of a user in one append
_CALL: Final = 1_000  # behaviours in one request
_SECONDS: Final = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redis_sizes", description=__doc__.partition("\n")[0])
    add_options(parser)
    return run("redis_sizes", lambda: _measure(parser.parse_args(arguments)))


def _measure(options: argparse.Namespace) -> int:
    users = 20 if options.quick else _USERS
    with world(options) as place, redis.Redis.from_url(place.redis_url) as client:
        settings = place.two_arms() | {
            "RANKER_RANKING_LOG__SHARE": "1", "RANKER_STREAMS__INTERVAL_MS": "20", "RANKER_REDIS__MAX_LENGTH": "1000",
        }  # fmt: skip
        print(f"redis {client.info('server')['redis_version']}\n")
        with place.service(settings=settings) as server:
            _behaviours(server, client, users)
            _events(place, server, client, users)
            _processor(place, server, client, users, 0.5 if options.quick else 4.0)
        _items(place.redis_url, client, 10 * users)
    return 0


def _behaviours(server: Server, client: Any, users: int) -> None:  # Any: a redis-py client, as its stubs differ
    print("| Behaviours of a user | Their records, bytes | In Redis, bytes |\n| --- | --- | --- |")
    for length in LENGTHS:
        client.flushall()
        names = [f"user-{number:08d}" for number in range(users)]
        used = _grown(client, lambda names=names, length=length: _append(server, names, length))  # type: ignore[misc]
        print(f"| {length:,} | {24 * length:,} | {used / users:,.0f} |", flush=True)


def _append(server: Server, users: Sequence[str], length: int) -> None:
    """Store a history of each user, ten behaviours at a time, as a day of use would."""
    at_once = _CALL // _EACH
    for start in range(0, length, _EACH):
        for first in range(0, len(users), at_once):
            events = [
                {"user_id": user, "item_id": f"item-{(start + place) * 7919 % 5_000}", "ts": NOW_MS + start + place}
                for user in users[first : first + at_once]
                for place in range(min(_EACH, length - start))
            ]
            _post(server, "/behaviours", {"behaviours": events})


def _events(place: World, server: Server, client: Any, count: int) -> None:
    print("\n| Ids, bytes | An exposure | A feedback event | A ranking of 20 items in the log |")
    print("| --- | --- | --- | --- |")
    for size in ID_BYTES:
        client.flushall()
        items = [f"{number:0{size}d}" for number in range(200)]
        for user in (f"{number:0{size}d}" for number in range(count)):
            _post(server, "/rank", {"user_id": user, "candidates": items})
        feedback = list(_feedback(size, count, items))
        for start in range(0, count, _CALL):
            _post(server, "/feedback?ack=stored", {"feedback": feedback[start : start + _CALL]})
        streams = (EXPOSURE_STREAM, ACTIVITY_STREAM, RANKING_STREAM)
        bytes_each = [_per_entry(client, stream, count) for stream in streams]
        print(f"| {size} | {' | '.join(f'{one:,.0f}' for one in bytes_each)} |", flush=True)


def _feedback(size: int, count: int, items: Sequence[str]) -> Iterator[dict[str, object]]:
    for number in range(count):
        name = f"{number:0{size}d}"
        yield {
            "user_id": name, "type": "play_end", "event_id": name, "item_id": items[number % len(items)],
            "view_id": name, "request_id": name, "play_ms": 9_000, "duration_ms": 12_000,
        }  # fmt: skip


def _per_entry(client: Any, stream: str, count: int) -> float:
    """Return the bytes of one entry, when as many as were sent have been written."""
    deadline = _SECONDS
    while client.xlen(stream) < count and deadline > 0:
        client.wait(0, 20)
        deadline -= 0.02
    written = client.xlen(stream)
    if written < count:
        raise CommandError(f"{stream} has {written} of {count} entries")
    return float(client.memory_usage(stream, samples=0)) / int(written)


def _processor(place: World, server: Server, client: Any, users: int, seconds: float) -> None:
    """Print the processor time of Redis for what callers do; ranking logs and exposures are written all the time."""
    client.flushall()
    store(place.redis_url, read_histories(place.behaviours))
    wrk = place.wrk()
    warm(server, wrk)
    before, answered = _cpu_seconds(client), wrk.run(server.url, 32, seconds).requests
    rows = {"a ranking with 200 candidates, and its entry in the log": (_cpu_seconds(client) - before, answered)}
    names = [f"user-{number:08d}" for number in range(users)]
    before = _cpu_seconds(client)
    _append(server, names, 100)
    rows[f"a behaviour, {_EACH} at a time"] = (_cpu_seconds(client) - before, 100 * users)
    print("\n| For | CPU of Redis, us |\n| --- | --- |")
    for name, (used, count) in rows.items():
        print(f"| {name} | {1e6 * used / count:.1f} |", flush=True)


def _cpu_seconds(client: Any) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def _items(url: str, client: Any, count: int) -> None:
    print("\n| Features of an item | Packed, bytes | In Redis, bytes |\n| --- | --- | --- |")
    for number in (3, 10, 30):
        features = {f"feature_{place:02d}": f"value-{place:04d}" for place in range(number)}
        client.flushall()
        used = _grown(client, lambda features=features: asyncio.run(_store(url, count, features)))  # type: ignore[misc]
        packed = int(client.strlen(client.randomkey()))
        print(f"| {number} of a name and a word | {packed:,} | {used / count:,.0f} |", flush=True)


async def _store(url: str, count: int, features: dict[str, object]) -> None:
    reads, writes = (make_client(url, timeout_seconds=_SECONDS) for _ in range(2))
    items = ItemStore(reads, writes, ttl_seconds=86_400, observer=Metrics())
    await items.store({f"item-{number}": features for number in range(count)})
    await items.close()


def _grown(client: Any, write: Callable[[], None]) -> int:
    """Return by how much the memory of Redis grows."""
    before = int(client.info("memory")["used_memory"])
    write()
    return int(client.info("memory")["used_memory"]) - before


def _post(server: Server, path: str, body: object) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=_SECONDS)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status not in {200, 202}:
        raise CommandError(f"{path}: {answer.status} {content[:200].decode(errors='replace')}")


if __name__ == "__main__":
    sys.exit(main())
