"""Faults of Redis: it is absent, killed, frozen, slow, cut, corrupt, full, or refuses."""

from __future__ import annotations

import math
import random
import socket

from redis import Redis

from benchmarks.figures import percentile
from tests.faults.invariants import Expected
from tests.faults.proxy import Toxics, toxic_proxy
from tests.faults.rig import DEADLINE_MS, Rig, Service
from tests.faults.row import absent, proven, row
from tests.faults.traffic import DEGRADED, FULL, Record, Traffic, good_share, p99_ms
from tests.faults.world import user
from tests.support.redis_server import RedisServer, free_port

_RATE = 80.0
_READ_TIMEOUT_MS = 20.0
_EXTRA_MS = 2.0  # allowed over the same load without a fault, when the breaker is open
_WINDOW_SECONDS = 0.25


def full_again(traffic: Traffic, name: str) -> float:
    """Return the seconds from the start of a phase until the first window with 99% full answers."""
    began = traffic.began(name)
    windows: dict[int, list[bool]] = {}
    for one in traffic.phase(name):
        windows.setdefault(int((one.due - began) / _WINDOW_SECONDS), []).append(one.outcome == FULL)
    good = [place for place, found in sorted(windows.items()) if sum(found) >= 0.99 * len(found)]
    return good[0] * _WINDOW_SECONDS if good else math.nan


def degraded(records: list[Record]) -> float:
    return sum(one.outcome == DEGRADED for one in records) / len(records) if records else math.nan


def extra_p99(traffic: Traffic, phase: str, start: float = 0.0, end: float = math.inf) -> float:
    """Return how much slower a part of a phase was than the phase before the fault."""
    began = traffic.began(phase)
    part = [one for one in traffic.phase(phase) if start <= one.due - began < end]
    return p99_ms(part) - p99_ms(traffic.phase("before"))


def kill(redis: RedisServer) -> None:
    """Kill a Redis that has its data again when it is started."""
    redis.call("SAVE")
    redis.kill()


def timeouts(kind: str) -> Expected:
    return Expected(raises=(("ranker_store_errors_total", {"kind": kind}),))


@row("R1", "absent when the service starts", "redis")
def absent_at_start(rig: Rig) -> None:
    redis = rig.redis()
    kill(redis)
    service = rig.service(redis.url)
    with rig.traffic(service, rate=_RATE) as traffic:
        traffic.mark("absent", rig.pick(2, 5))
        redis.start()
        traffic.mark("after", 4)
    rig.require(degraded(traffic.phase("absent")) == 1, "answers without Redis are not marked as degraded")
    rig.figure("B6", "full quality after Redis comes up", full_again(traffic, "after"), "s", most=1.0)


@row("R2", "killed in mid-traffic, started again", "redis", seeds=3)
def killed(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    with rig.traffic(service, rate=_RATE, expected=timeouts("connection")) as traffic:
        traffic.mark("before", 2)
        kill(redis)
        traffic.mark("fault", rig.pick(2, 10))
        redis.start()
        traffic.mark("after", 4)
    during = traffic.phase("fault")
    rig.figure(
        "B4", "answers in time while killed", 100 * good_share(during, DEADLINE_MS, outcomes=(FULL, DEGRADED)), "%",
        least=100.0,
    )  # fmt: skip
    rig.figure("B5", "more p99 while killed", extra_p99(traffic, "fault"), "ms", most=_READ_TIMEOUT_MS)
    rig.figure("B6", "full quality after Redis returns", full_again(traffic, "after"), "s", most=1.0)


@row("R3", "frozen (SIGSTOP), then continued", "redis", quick=True, seeds=3)
def frozen(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    seconds = rig.pick(4, 30)
    with rig.traffic(service, rate=_RATE, expected=timeouts("timeout")) as traffic:
        traffic.mark("before", 2)
        redis.freeze()
        traffic.mark("fault", seconds)
        redis.thaw()
        traffic.mark("after", 4)
    in_time = 100 * good_share(traffic.phase("fault"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure(
        "B4", f"answers in time, Redis frozen {seconds:.0f} s", in_time, "%", least=100.0,
        plain=_plain_while_frozen(rig, redis, seconds) if rig.seed == 1 else None,
    )  # fmt: skip
    rig.figure("B5", "more p99 in the first second", extra_p99(traffic, "fault", end=1.0), "ms", most=_READ_TIMEOUT_MS)
    rig.figure("B5", "more p99 after the breaker has opened", extra_p99(traffic, "fault", 1.0), "ms", most=_EXTRA_MS)
    rig.figure("B6", "full quality after Redis returns", full_again(traffic, "after"), "s", most=1.0)


def _plain_while_frozen(rig: Rig, redis: RedisServer, seconds: float) -> float:
    with rig.plain(redis) as server, Traffic(server.port, rig.world, rate=_RATE, is_plain=True) as traffic:
        traffic.mark("before", 1)
        redis.freeze()
        traffic.mark("fault", seconds)
        redis.thaw()
        traffic.mark("after", 0.5)
    return 100 * good_share(traffic.phase("fault"), DEADLINE_MS)


def _behind(rig: Rig, port: int) -> Service:
    return rig.service(f"redis://127.0.0.1:{port}/0")


@row("R4", "slow by 5, 20, 100, 500 ms with jitter", "redis")
def slow(rig: Rig) -> None:
    redis = rig.redis(port=free_port())
    with toxic_proxy(redis.port, rig.seed) as proxy:
        service = _behind(rig, proxy.port)
        with rig.traffic(service, rate=_RATE, expected=timeouts("timeout")) as traffic:
            traffic.mark("before", 2)
            for delay in (5, 20, 100, 500):
                proxy.toxics = Toxics(delay_ms=delay, jitter_ms=delay / 5)
                traffic.mark(f"{delay}", rig.pick(1, 3))
            proxy.toxics = Toxics()
            traffic.mark("after", 4)
    rig.figure("R4", "full answers at 5 ms", 100 * (1 - degraded(traffic.phase("5"))), "%", least=99.0)
    for delay in ("100", "500"):
        share = good_share(traffic.phase(delay), DEADLINE_MS, outcomes=(FULL, DEGRADED))
        rig.figure("R4", f"answers in time at {delay} ms", 100 * share, "%", least=100.0)
    rig.figure("B6", "full quality after the link is fast again", full_again(traffic, "after"), "s", most=1.0)


@row("R5", "trickle: one byte every 10 ms", "redis")
def trickle(rig: Rig) -> None:
    redis = rig.redis(port=free_port())
    with toxic_proxy(redis.port, rig.seed) as proxy:
        service = _behind(rig, proxy.port)
        with rig.traffic(service, rate=_RATE, expected=timeouts("timeout")) as traffic:
            traffic.mark("before", 1)
            proxy.toxics = Toxics(slice_bytes=1)
            traffic.mark("fault", rig.pick(2, 6))
            proxy.toxics = Toxics()
            traffic.mark("after", 4)
    share = good_share(traffic.phase("fault"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("R5", "answers in time", 100 * share, "%", least=100.0)


@row("R6", "reset after N bytes of reply, every N", "redis", seeds=3)
def cut(rig: Rig) -> None:
    redis = rig.redis(port=free_port())
    with toxic_proxy(redis.port, rig.seed) as proxy:
        service = _behind(rig, proxy.port)
        with rig.traffic(service, rate=2 * _RATE, expected=Expected()) as traffic:
            traffic.mark("fault")
            for count in range(0, 240, 8 if rig.is_quick else 1):
                proxy.toxics = Toxics(cut_after=count)
                traffic.mark("fault", 0.05)
            proxy.toxics = Toxics()
            traffic.mark("after", 4)
        rig.require(proxy.cuts > 0, "nothing was cut")
        rig.figure("R6", "replies cut", proxy.cuts, least=1)
    rig.figure("B6", "full quality after the last cut", full_again(traffic, "after"), "s", most=1.0)


@row("R7", "one bit of replies flipped", "redis", seeds=3)
def flipped(rig: Rig) -> None:
    """A flipped bit may be in the protocol, or in a record, which its checksum then refuses."""
    redis = rig.redis(port=free_port())
    with toxic_proxy(redis.port, rig.seed) as proxy:
        service = _behind(rig, proxy.port)
        # A damaged record is dropped, so scores are those of a shorter history: they are not compared here.
        with rig.traffic(service, rate=2 * _RATE, checks_scores=False) as traffic:
            traffic.mark("before", 1)
            proxy.toxics = Toxics(flip_share=0.2)
            traffic.mark("fault", rig.pick(4, 30))
            proxy.toxics = Toxics()
            traffic.mark("after", 4)
        rig.figure("R7", "pieces of replies with a flipped bit", proxy.flips, least=1)
    rig.figure("B6", "full quality after the last flip", full_again(traffic, "after"), "s", most=1.0)


@row("R8", "replies that come after the timeout", "redis", seeds=3)
def shifted(rig: Rig) -> None:
    """Every reply belongs to a request that has been given up: none may be given to the next one."""
    redis = rig.redis(port=free_port())
    with toxic_proxy(redis.port, rig.seed) as proxy:
        service = _behind(rig, proxy.port)
        draw = random.Random(rig.seed)
        with rig.traffic(service, rate=3 * _RATE) as traffic:
            traffic.mark("fault")
            for _ in range(int(rig.pick(20, 150))):
                proxy.toxics = Toxics(delay_ms=draw.choice([0, 15, 25]), jitter_ms=20)
                traffic.mark("fault", 0.2)
    wrong = sum(one.seen.problem.startswith("V4") for one in traffic.records)
    rig.figure("B8", f"answers with another user's data, of {len(traffic.records):,}", wrong, most=0)
    late = sum("store_unavailable" in one.seen.reasons for one in traffic.records)
    rig.figure("R8", "reads given up", late, least=1)


@row("R9", "a host that never accepts", "redis")
def black_hole(rig: Rig) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):  # the queue of connections is full after one or two
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        service = rig.service(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        with rig.traffic(service, rate=_RATE) as traffic:
            traffic.mark("fault", rig.pick(2, 6))
        for filler in fillers:
            filler.close()
    share = good_share(traffic.phase("fault"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("R9", "answers in time", 100 * share, "%", least=100.0)
    rig.require(degraded(traffic.phase("fault")) == 1, "answers are not marked as degraded")


@row("R10 R11", "keys of a wrong type, damaged values", "redis", seeds=3)
def damaged(rig: Rig) -> None:
    redis = rig.redis()
    draw = random.Random(rig.seed)
    service = rig.service(redis)
    kinds = 0
    with rig.traffic(service, rate=2 * _RATE, checks_scores=False) as traffic:
        for name, value in _damages(draw):
            for number in range(0, 60, 3):
                key = f"bhv:{{{user(number)}}}"
                redis.call("DEL", key)
                redis.call(*(word if word != b"KEY" else key for word in value))
            kinds += 1
            traffic.mark(name, 0.25)
    rig.figure("B9", "kinds of damage", kinds, least=30)
    rig.require(all(one.outcome in (FULL, DEGRADED) for one in traffic.records), "an answer is not a ranking")


def _damages(draw: random.Random) -> list[tuple[str, list[bytes]]]:
    typed = [
        ("list", [b"RPUSH", b"KEY", b"a"]), ("set", [b"SADD", b"KEY", b"a"]), ("hash", [b"HSET", b"KEY", b"a", b"b"]),
        ("sorted set", [b"ZADD", b"KEY", b"1", b"a"]), ("stream", [b"XADD", b"KEY", b"*", b"a", b"b"]),
    ]  # fmt: skip
    values = {
        "empty": b"", "one byte": b"x", "bad UTF-8": b"\xff\xfe" * 24, "zeros": bytes(48), "ones": b"\xff" * 48,
        "JSON": b'[{"item_id": "1"}]' * 10, "10 MB": bytes(10_000_000), "text": b"hello " * 100,
        "a pickle": b"\x80\x04\x95" + bytes(60), "RESP": b"$5\r\nhello\r\n" * 8,
    }  # fmt: skip
    values |= {f"torn to {size} bytes": draw.randbytes(size) for size in (7, 23, 25, 47, 49, 100)}
    values |= {f"random {number}": draw.randbytes(24 * draw.randint(1, 250)) for number in range(12)}
    return typed + [(name, [b"SET", b"KEY", value]) for name, value in values.items()]


@row("R13 R14", "memory full: refusing, then evicting", "redis")
def full(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    # Users whose history is evicted are new users: their scores are the cold ones, and not a fault.
    with rig.traffic(service, rate=_RATE, checks_scores=False) as traffic:
        traffic.mark("before", 1)
        redis.call("CONFIG", "SET", "maxmemory", "1mb")
        traffic.mark("refusing", 2)
        rig.require(redis.call("SET", "x", "y").startswith(b"-OOM"), "Redis is not full")
        redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        traffic.mark("evicting", 2)
    rig.figure("R13", "full answers while writes are refused", 100 * (1 - degraded(traffic.phase("refusing"))), "%",
               least=99.0)  # fmt: skip


@row("R16", "rights are withdrawn while it runs", "redis")
def no_rights(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    with rig.traffic(service, rate=_RATE, expected=timeouts("auth")) as traffic:
        traffic.mark("before", 1)
        redis.call("ACL", "SETUSER", "default", "-@all", "+acl", "+auth", "+ping")
        traffic.mark("fault", rig.pick(2, 5))
        redis.call("ACL", "SETUSER", "default", "+@all")
        traffic.mark("after", 4)
    rig.require(degraded(traffic.phase("fault")) > 0.9, "rankings without rights are not degraded")
    rig.figure("B6", "full quality after the rights are back", full_again(traffic, "after"), "s", most=1.0)


@row("R17", "no more clients (maxclients)", "redis")
def no_clients(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    with rig.traffic(service, rate=_RATE) as traffic:
        traffic.mark("before", 1)
        with Redis(unix_socket_path=str(redis.socket), single_connection_client=True) as only:
            only.config_set("maxclients", 1)
            only.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            traffic.mark("fault", rig.pick(2, 5))
            only.config_set("maxclients", 10_000)
        traffic.mark("after", 4)
    rig.require(degraded(traffic.phase("fault")) > 0.9, "rankings without a connection are not degraded")
    share = good_share(traffic.phase("fault"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("R17", "answers in time", 100 * share, "%", least=100.0)
    rig.figure("B6", "full quality after clients are taken", full_again(traffic, "after"), "s", most=1.0)


@row("R18", "one connection, slow Redis", "redis")
def one_connection(rig: Rig) -> None:
    redis = rig.redis(port=free_port())
    with toxic_proxy(redis.port, rig.seed) as proxy:
        service = rig.service(f"redis://127.0.0.1:{proxy.port}/0", REDIS__MAX_CONNECTIONS="1")
        proxy.toxics = Toxics(delay_ms=8)
        with rig.traffic(service, rate=3 * _RATE) as traffic:
            traffic.mark("fault", rig.pick(2, 6))
    records = traffic.phase("fault")
    rig.figure("R18", "answers in time", 100 * good_share(records, DEADLINE_MS, outcomes=(FULL, DEGRADED)), "%",
               least=100.0)  # fmt: skip
    rig.figure("R18", "p50", 1_000 * percentile([one.seconds for one in records], 0.5), "ms", most=60.0)


@row("R25", "FLUSHALL in mid-traffic", "redis")
def flushed(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    with rig.traffic(service, rate=_RATE, checks_scores=False) as traffic:
        traffic.mark("before", 1)
        redis.call("FLUSHALL")
        traffic.mark("after", 3)
    rig.require(degraded(traffic.phase("after")) < 0.01, "new users are marked as degraded")


@row("R26", "reconnects after an outage", "redis")
def reconnects(rig: Rig) -> None:
    redis = rig.redis(port=free_port())
    with toxic_proxy(redis.port, rig.seed) as proxy:
        service = _behind(rig, proxy.port)
        with rig.traffic(service, rate=3 * _RATE) as traffic:
            traffic.mark("before", 1)
            kill(redis)
            began = proxy.connections
            traffic.mark("fault", rig.pick(3, 10))
            per_second = (proxy.connections - began) / rig.pick(3, 10)
            redis.start()
            traffic.mark("after", 4)
    rig.figure("R26", "connections per second to a dead Redis", per_second, "/s", most=32.0)
    rig.figure("B6", "full quality after Redis returns", full_again(traffic, "after"), "s", most=1.0)


proven("R12", "a huge value", "redis",
       "integration/test_redis_behaviours.py::test_huge_foreign_value_costs_a_bounded_read_and_is_replaced_by_the_next_append")  # fmt: skip
absent("R22", "a replica lags", "rankings read from the primary only")
absent("R23", "the connection that tracks changes is lost", "the service has no cache of histories that needs tracking")
