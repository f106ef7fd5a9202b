"""The arithmetic of the load generator, and the open loop against a real server on the loopback interface."""

from __future__ import annotations

import math
import os
import random
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from benchmarks.figures import median, medians, percentile, ratio
from benchmarks.load import counts
from benchmarks.load.offer import goodput, recovery_seconds, requests_of, summary
from benchmarks.load.overload import BELOW, BEYOND, figures_of
from benchmarks.load.profile import by_file, by_function, read_stacks
from benchmarks.load.sockets import FULL, Answer, Offered, Phase, content_length, has_ended, offer, outcome_of, schedule
from benchmarks.load.usage import MARK, family, usage
from benchmarks.load.workload import bodies, made_histories
from benchmarks.load.wrk import parse
from contract.behaviours.records import RECORD_BYTES, unpack


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 5.0), (0.9, 9.0), (0.91, 10.0), (0.99, 10.0), (1.0, 10.0)]
)
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(share: float, expected: float) -> None:
    assert percentile([float(value) for value in (3, 1, 2, 10, 9, 8, 4, 5, 6, 7)], share) == expected


def test_figures_of_nothing_are_no_numbers() -> None:
    assert math.isnan(percentile([], 0.5))
    assert math.isnan(median([math.nan]))
    assert math.isnan(ratio(1.0, 0.0))
    assert medians([]) == {}


def test_the_median_of_rounds_is_taken_figure_by_figure() -> None:
    rounds = [{"a": 3.0, "b": 1.0}, {"a": 1.0, "b": math.nan}, {"a": 2.0, "b": 3.0}]
    assert medians(rounds) == {"a": 2.0, "b": 2.0}


def test_a_schedule_has_the_rate_of_each_phase_and_independent_gaps() -> None:
    moments = schedule([Phase(1_000, 10), Phase(100, 10)], random.Random(7))
    first = [moment for moment, phase in moments if phase == 0]
    second = [moment for moment, phase in moments if phase == 1]
    assert len(first) == pytest.approx(10_000, rel=0.05)
    assert len(second) == pytest.approx(1_000, rel=0.15)
    assert max(first) < 10 <= min(second)
    gaps = [later - earlier for earlier, later in pairwise(first)]
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert spread == pytest.approx(mean, rel=0.05)  # exponential gaps: as wide as long


def offered_of(answers: list[Answer]) -> Offered:
    return Offered(answers, began=[0.0, 1.0], cpu_seconds=[0.25, 0.0])


def test_goodput_counts_full_answers_within_the_deadline() -> None:
    answers = [
        Answer(0, 0.1, 0.0, 0.010, FULL), Answer(0, 0.2, 0.0, 0.060, FULL), Answer(0, 0.3, 0.0, 0.010, "degraded"),
        Answer(0, 0.4, 0.0, 0.001, "429"), Answer(1, 1.4, 0.0, 0.010, FULL), Answer(0, 0.5, 0.0, 0.001, "closed"),
    ]  # fmt: skip
    assert goodput(offered_of(answers), 0, 1.0, deadline_ms=50) == 1.0
    figures = summary(offered_of(answers), 0, 1.0, deadline_ms=50)
    assert figures["offered"] == 5.0
    assert (figures["full"], figures["degraded"], figures["refused"], figures["other"]) == (2.0, 1.0, 1.0, 1.0)
    assert figures["p99_ms"] == 60.0
    assert figures["generator_cores"] == 0.25


@pytest.mark.parametrize(("bad_at", "expected"), [([], 0.0), ([1.01], 0.25), ([1.01, 1.60], 0.75)])
def test_recovery_ends_with_the_last_bin_in_which_more_than_one_in_twenty_fails(
    bad_at: list[float], expected: float
) -> None:
    due = [1 + place / 50 for place in range(50)] + bad_at
    answers = [Answer(1, moment, 0.0, 9.0 if moment in bad_at else 0.01, FULL) for moment in due]
    answers.append(Answer(0, 0.99, 0.0, 9.0, FULL))  # of the phase before
    assert recovery_seconds(offered_of(answers), 1, deadline_ms=50) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"degraded":[],"items":[]}', FULL),
        (b'HTTP/1.1 200 OK\r\n\r\n{"items":[]}', FULL),
        (b'HTTP/1.1 200 OK\r\n\r\n{"degraded":["popularity"],"items":[]}', "degraded"),
        (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", "429"),
    ],
)
def test_an_outcome_is_read_from_the_answer(answer: bytes, expected: str) -> None:
    assert outcome_of(answer, answer.index(b"\r\n\r\n")) == expected


def test_goodput_is_compared_within_a_round_by_the_capacity_of_the_same_moment() -> None:
    def round_of(capacity: float, at_five: float, refused: float) -> dict[str, dict[str, float]]:
        case = {"capacity": capacity, "goodput": capacity, "offered": 1_000.0, "refused": 0.0, "recovery_seconds": 0.25}
        five = {"goodput": at_five, "capacity": capacity / 2}  # the machine was half as fast meanwhile
        return {factor: dict(case) for factor in (*BELOW, *BEYOND)} | {
            "5": {**case, **five}, "0.9": {**case, "refused": refused}
        }  # fmt: skip

    found = figures_of([round_of(4_000, 1_800, 0.0), round_of(6_000, 2_400, 30.0), round_of(1_000, 450, 2.0)])
    assert found["share_of_peak"]["5"] == pytest.approx(0.9)
    assert found["share_of_peak"]["10"] == 1.0
    assert found["refused_below"] == 2.0
    assert found["recovery_seconds"] == 0.25


def test_a_content_length_is_read_in_any_case() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nx: y") == 12
    assert content_length(b"HTTP/1.1 200 OK") == -1


def test_bodies_are_seeded_and_ask_for_every_user() -> None:
    users, items = [f"u{n}" for n in range(10)], [f"i{n}" for n in range(50)]
    assert bodies(users, items, 20, count=30) == bodies(users, items, 20, count=30)
    asked = bodies(users, items, 20, count=10)
    assert {user for user in users if any(f'"{user}"'.encode() in body for body in asked)} == set(users)


def test_made_histories_are_valid_records() -> None:
    values = list(made_histories(["a", "b"], ["1", "2"], 5).values())
    assert [len(value) for value in values] == [5 * RECORD_BYTES] * 2
    assert unpack(values).corrupt == [0, 0]
    assert made_histories(["a"], ["1"], 0) == {"a": b""}


def test_answers_other_than_2xx_are_no_requests_of_a_closed_loop() -> None:
    figures = '"requests": 100, "microseconds": 2000000, "refused": 20, "lost": 0, "p50": 1.5, "p99": 2.5'
    line = f"FIGURES {{{figures}}}"
    closed = parse(line)
    assert (closed.requests, closed.refused, closed.rate, closed.p50_ms) == (80, 20, 40.0, 1.5)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        busy = self.headers["x-deadline-ms"] == "1"
        body = b'{"degraded":[],"items":[]}'
        self.send_response(429 if busy else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server: socketserver.BaseServer = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address  # type: ignore[misc]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("is_kept", [True, False])
def test_every_request_of_an_open_loop_has_one_outcome(address: tuple[str, int], is_kept: bool) -> None:
    phases = [Phase(200, 0.5), Phase(100, 0.5)]
    requests = requests_of([b'{"user_id":"1"}'], deadline_ms=50)
    offered = offer(address, requests, phases, random.Random(3), connections=64, is_kept=is_kept)
    due = schedule(phases, random.Random(3))
    assert sorted(one.phase for one in offered.answers) == [phase for _, phase in due]
    assert set(offered.counts(0)) | set(offered.counts(1)) == {FULL}
    assert all(one.seconds >= one.late >= 0 for one in offered.answers)
    assert offered.heads[0].startswith(b"HTTP/1.1 200")
    assert len(offered.cpu_seconds) == 2
    assert all(0 <= used < 0.5 for used in offered.cpu_seconds)


def test_an_idle_connection_that_the_server_has_closed_is_seen() -> None:
    one, other = socket.socketpair()
    with one:
        one.setblocking(False)
        with other:
            assert not has_ended(one)
            other.send(b"x")
            assert not has_ended(one)
            one.recv(1)
        assert has_ended(one)


def test_refusals_and_full_connections_are_counted_as_such(address: tuple[str, int]) -> None:
    refused = offer(address, requests_of([b"{}"], 1), [Phase(100, 0.3)], random.Random(3))
    assert set(refused.counts(0)) == {"429"}
    crowded = offer(address, requests_of([b"{}"], 50), [Phase(50_000, 0.02)], random.Random(3), connections=1)
    assert crowded.counts(0)["no connection"] > 100


def test_usage_counts_a_process_with_its_children_and_its_orphans() -> None:
    child = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ntime.sleep(60)"
    parent = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    environment = {**os.environ, MARK: "test-usage"}
    process = subprocess.Popen([sys.executable, "-c", parent], env=environment)
    pids: list[int] = []
    try:
        until = time.monotonic() + 20
        while usage(family(process.pid, "test-usage")).cpu_seconds < 0.3 and time.monotonic() < until:
            time.sleep(0.02)
        pids = family(process.pid, "test-usage")
        found = usage(pids)
        assert found.processes == 2
        assert found.cpu_seconds >= 0.3
        assert found.resident_bytes > 2**20
        process.kill()
        process.wait()
        orphans = [pid for pid in pids if pid != process.pid]
        assert [pid for pid in family(process.pid, "test-usage") if pid != process.pid] == orphans
    finally:
        process.kill()
        process.wait()
        for pid in pids:
            if pid != process.pid:
                os.kill(pid, 9)


def test_a_profile_counts_a_sample_for_the_innermost_file_of_ours() -> None:
    lines = [
        "main (/x/service/a.py);rank (/x/service/ranking/b.py);sort (/x/site-packages/numpy/c.py) 3",
        "main (/x/service/a.py) 1",
        "worker (threading.py) 1",
        "main (/x/service/a.py);get (/x/site-packages/service/d.py) 5",
    ]
    stacks = read_stacks(lines)
    assert by_file(stacks) == [("service/a.py", 0.6), ("service/ranking/b.py", 0.3), ("elsewhere", 0.1)]
    assert dict(by_function(stacks))["sort (/x/site-packages/numpy/c.py)"] == 0.3


def test_counts_are_those_of_rankings_and_of_the_engine_s_batches() -> None:
    found = counts.parse(
        "# TYPE ranker_batch_rows histogram\n"
        'ranker_batch_rows_sum{bundle="store"} 40\nranker_batch_rows_count{bundle="store"} 10\n'
        'ranker_batch_rows_sum{bundle="a@1"} 30\nranker_batch_rows_count{bundle="a@1"} 3\n'
        'ranker_batch_rows_sum{bundle="b@1"} 10\nranker_batch_rows_count{bundle="b@1"} 2\n'
        "# TYPE ranker_requests_total counter\n"
        'ranker_requests_total{route="/rank",status="504",variant="none"} 2\n'
        'ranker_requests_total{route="/rank",status="504",variant="b"} 3\n'
        'ranker_requests_total{route="/metrics",status="200",variant="none"} 9\n'
    )
    assert (found["ranker_batch_rows_sum", "engine"], found["ranker_batch_rows_count", "engine"]) == (40, 5)
    assert {status: count for (name, status), count in found.items() if "requests" in name} == {"504": 5}
