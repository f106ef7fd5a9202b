"""Observability and the machine: metric series, scrapes, the log, the clock."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Final

from tests.faults.invariants import Expected
from tests.faults.raw import connection, get, post
from tests.faults.rig import DEADLINE_MS, ROOT, Rig
from tests.faults.row import absent, proven, row
from tests.faults.traffic import DEGRADED, FULL, good_share, p99_ms

_RATE: Final = 80.0
_PLAIN: Final = ROOT / "tests" / "faults" / "plain_metrics.py"
_FAULTS: Final = {  # each so many-th call of a thread
    "epoll_pwait": "EINTR:when=5+7", "read": "EINTR:when=5+11", "write": "EAGAIN:when=5+13",
    "accept4": "ECONNABORTED:when=5+9",
}  # fmt: skip
_ODD_SERIES: Final = 20  # the statuses of refusals: a closed list
_FAKETIME: Final = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@row("O1 O2", "label explosion: paths, headers and ids of attackers", "system", quick=True)
def labels(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    count = int(rig.pick(3_000, 100_000))
    with get(service.port, "/metrics") as scraper, post(service.port) as caller:
        fresh = _count(scraper)
        for asked in rig.world.asked:  # users of both arms
            caller.ask(asked.body)
        usual = _count(scraper)
        early, late = _series(rig, service.port, scraper, count)
    rig.require(late - early <= 10, f"{late - early} more series after {count:,} hostile requests")
    with rig.plain(redis, server=_PLAIN) as server, get(server.port, "/metrics") as scraper:
        plain = _series(rig, server.port, scraper, 3_000)
    rig.asked(count)
    rig.figure(
        "C10", "series after hostile requests, more than after 1,000", late - early, most=0, plain=plain[1] - plain[0]
    )
    rig.figure("C10", "series", late, most=500, plain=plain[1])
    rig.figure("C10", "series that good rankings do not have", late - usual, most=_ODD_SERIES)
    rig.note(f"{fresh} series after the start, {usual} after good rankings, {late} after hostile requests")


def _series(rig: Rig, port: int, scraper: object, count: int) -> tuple[int, int]:
    """Return the number of metric series after 1,000 hostile requests, and after all of them."""
    draw, early = random.Random(rig.seed), 0
    _count(scraper)  # scrapes are counted too, from the second one on
    with connection(port) as attacker:
        for number in range(count):
            attacker.send(_hostile(draw))
            if number == 1_000:
                early = _count(scraper)
    return early, _count(scraper)


def _hostile(draw: random.Random) -> bytes:
    word = f"{draw.getrandbits(64):x}"
    body = b'{"user_id":"%s","candidates":["%s"]}' % (word.encode(), word.encode())
    path = draw.choice((f"/{word}", "/rank", f"/rank/{word}", f"/rank?x={word}", f"/behaviours/{word}"))
    method = draw.choice(("POST", "GET", "PUT", "POST"))
    head = f"{method} {path} HTTP/1.1\r\nhost: {word}\r\ncontent-type: application/json\r\n"
    headers = f'x-ab-bucket: {word}\r\nx-request-id: {word}"}}\\n\r\nuser-agent: {word}\r\nx-ab-override: {word}\r\n'
    length = len(body) if method == "POST" else 0
    return f"{head}{headers}content-length: {length}\r\n\r\n".encode() + body[:length]


def _count(scraper: object) -> int:
    answer = scraper.ask()  # type: ignore[attr-defined]
    return sum(1 for line in answer.body.splitlines() if line and not line.startswith(b"#"))


@row("O3", "a flood of scrapes", "system")
def scrapes(rig: Rig) -> None:
    redis = rig.redis()
    service = rig.service(redis)
    told = threading.Event()

    def scrape() -> None:
        with get(service.port, "/metrics") as scraper:
            while not told.wait(0.01):
                scraper.ask()

    with rig.traffic(service, rate=_RATE) as traffic:
        traffic.mark("quiet", 3)
        scraper = threading.Thread(target=scrape)
        scraper.start()
        traffic.mark("flood", rig.pick(4, 20))
        told.set()
        scraper.join()
    rig.figure(
        "O3",
        "p99 at 100 scrapes a second, of the quiet p99",
        p99_ms(traffic.phase("flood")) / p99_ms(traffic.phase("quiet")),
        "x",
        most=2.0,
    )


@row("O5", "no one reads the log", "system", quick=True)
def blocked_log(rig: Rig) -> None:
    redis = rig.redis()
    reading, writing = os.pipe()
    service = rig.service(redis, output=writing, LOGGING__BUFFER_BYTES="65536")
    dropped = Expected(raises=(("ranker_log_lines_dropped_total", {}),))
    try:
        with rig.traffic(service, rate=400, expected=dropped) as traffic:
            traffic.mark("blocked", rig.pick(5, 20))
        _drain(rig, service, reading)
    finally:
        for one in (reading, writing):
            os.close(one)
    share = good_share(traffic.phase("blocked"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("B16", "answers in time while no one reads the log", 100 * share, "%", least=99.9)


def _drain(rig: Rig, service: object, reading: int) -> None:
    """End the service while its log is read."""
    os.set_blocking(reading, False)
    rig.ended(service)  # type: ignore[arg-type]


@row("O6", "the log is on a full disk", "system")
def full_disk(rig: Rig) -> None:
    redis = rig.redis()
    with Path("/dev/full").open("wb") as full:
        service = rig.service(redis, output=full.fileno(), LOGGING__BUFFER_BYTES="65536")
        with rig.traffic(service, rate=400) as traffic:
            traffic.mark("full", rig.pick(4, 15))
        rig.ended(service)
    share = good_share(traffic.phase("full"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("B16", "answers in time while the disk is full", 100 * share, "%", least=99.9)


@row("O8 O9", "the clock jumps by an hour, back and forth", "system")
def clock(rig: Rig) -> None:
    """The monotonic clock stays real, as the kernel's does when a machine's time is set."""
    if not Path(_FAKETIME).exists():
        return rig.require(False, "libfaketime is missing (Debian package: faketime)")
    redis = rig.redis()
    jumps = rig.folder / "offset"
    jumps.write_text("+0")
    made = rig.prepared(redis)
    made._environment |= {
        "LD_PRELOAD": _FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(jumps), "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    made.spawn()
    service = rig.started(rig.until_ready(made))
    with rig.traffic(service, rate=_RATE) as traffic:
        traffic.mark("before", 1)
        for offset in ("+3600", "-3600", "+86400", "+0", "-0.5", "+0"):
            new = rig.folder / "new"
            new.write_text(offset)
            new.replace(jumps)
            traffic.mark("jumps", rig.pick(1, 5))
    share = good_share(traffic.phase("jumps"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("B16", "answers in time while the clock jumps", 100 * share, "%", least=99.0)
    return None


@row("O10", "calls of the kernel that are interrupted, not ready or aborted, again and again", "system")
def failing_calls(rig: Rig) -> None:
    """Injected by strace while the service runs: EINTR, EAGAIN and ECONNABORTED."""
    program = shutil.which("strace")
    if program is None:
        return rig.require(False, "strace is missing (Debian package: strace)")
    redis = rig.redis()
    service = rig.service(redis)
    found = rig.folder / "calls"
    injected = [part for call, fault in _FAULTS.items() for part in ("-e", f"inject={call}:error={fault}")]
    command = [program, "-f", "-qq", "-o", str(found), "-e", f"trace={','.join(_FAULTS)}", *injected]
    with rig.traffic(service, rate=_RATE, is_kept=False) as traffic:
        traffic.mark("before", 1)
        tracer = subprocess.Popen([*command, "-p", str(service.process.pid)])
        traffic.mark("fault", rig.pick(3, 10))
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
        traffic.mark("after", 1)
    count = found.read_text(errors="replace").count("(INJECTED)")
    rig.figure("O10", "calls that failed", count, least=20)
    share = good_share(traffic.phase("fault"), DEADLINE_MS, outcomes=(FULL, DEGRADED))
    rig.figure("B16", "answers in time while calls fail", 100 * share, "%", least=99.0)
    return None


proven("O4", "hostile values in the log", "system",
       "unit/service/output/test_access_log.py::test_hostile_values_are_written_as_structlog_writes_them",
       "e2e/test_redis_urls.py::test_a_running_service_logs_no_secret_whatever_redis_does",
       "e2e/test_service.py::test_every_line_of_the_log_is_json_and_names_no_user")  # fmt: skip
proven("O6", "a full disk for events", "system",
       "integration/test_redis_spool.py::test_a_full_disk_costs_what_does_not_fit_and_no_more")  # fmt: skip
absent(
    "O7",
    "metric files of several processes on a full disk",
    "workers send their metrics over sockets: there are no files",
)
absent("O11", "Prometheus and Grafana are down", "the service calls neither; every row runs without them")
absent("B17", "no alert fires in a clean hour", "the soak runs for an hour; `promtool test rules` proves each alert")
