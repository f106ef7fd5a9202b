"""With any fault of standard output, requests are answered, background work continues, and SIGTERM works."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService, ServiceProcess
from tests.support.warm_service import run_service, starter

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

BODY = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}
SMALL = {"LOGGING__BUFFER_BYTES": "16384"}
CLOSED_AT_START = ("sh", "-c", 'exec "$@" 1>&- 2>&-', "sh")


class Pipe:
    """A small pipe, both ends here."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 4096)

    def close_reader(self) -> None:
        os.close(self.read_end)


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    service = PlainService(tmp_path, own_redis.url, EXPERIMENTS__RELOAD_MS="100", **SMALL)
    yield service
    service.close()


def rank(service: ServiceProcess, count: int) -> list[httpx.Response]:
    with httpx.Client(base_url=service.url, verify=False) as client:
        return [client.post("/rank", json=BODY | {"user_id": f"u{number}"}) for number in range(count)]


def revision(service: ServiceProcess) -> str:
    return str(httpx.get(f"{service.url}/info", verify=False).json()["experiments"]["revision"])


def check_all_goes_on(service: ServiceProcess, redis: RedisServer) -> None:
    """Check requests, with and without Redis, the flusher, the watcher and the end."""
    assert {answer.status_code for answer in rank(service, 150)} == {200}
    redis.kill()
    answers = rank(service, 20)
    assert [answer.status_code for answer in answers] == [200] * 20
    assert answers[-1].json()["degraded"] == ["store_unavailable"]
    redis.start()
    service.until(lambda: rank(service, 1)[0].json()["degraded"] == [], "whole again")
    rank(service, 5)
    service.until(lambda: service.metric("ranker_stream_queue_depth") == 0, "exposures written")
    assert service.metric("ranker_exposures_dropped_total") == 0
    text = service.experiments.read_text()
    service.experiments.write_text(text.replace(f"revision: {revision(service)}", "revision: next.1"))
    service.until(lambda: revision(service) == "next.1", "the next file taken")
    assert service.metric("ranker_task_restarts_total") == 0
    assert service.metric("ranker_log_lines_dropped_total") > 0
    service.send(signal.SIGTERM)
    assert service.wait() == 0


@pytest.mark.slow
def test_a_log_that_no_one_reads(service: ServiceProcess, own_redis: RedisServer) -> None:
    pipe = Pipe()
    service.start(pipe.write_end)
    check_all_goes_on(service, own_redis)


@pytest.mark.slow
def test_a_log_whose_reader_is_gone(service: ServiceProcess, own_redis: RedisServer) -> None:
    pipe = Pipe()
    service.start(pipe.write_end)
    os.close(pipe.write_end)
    pipe.close_reader()
    check_all_goes_on(service, own_redis)


@pytest.mark.slow
def test_a_log_on_a_full_disk(service: ServiceProcess, own_redis: RedisServer) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    service.start(full)
    os.close(full)
    check_all_goes_on(service, own_redis)


def test_standard_streams_that_are_closed_at_the_start(service: ServiceProcess, own_redis: RedisServer) -> None:
    service.spawn(None, *CLOSED_AT_START)
    service.until(lambda: answers(service), "ready")
    descriptors = Path(f"/proc/{service.process.pid}/fd")
    assert {str((descriptors / number).readlink()) for number in "12"} == {"/dev/null"}
    assert {answer.status_code for answer in rank(service, 20)} == {200}
    service.send(signal.SIGTERM)
    assert service.wait() == 0


def answers(service: ServiceProcess) -> bool:
    try:
        return httpx.get(f"{service.url}/health/ready", verify=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_a_reader_that_comes_back_finds_whole_lines_and_how_many_are_missing(service: ServiceProcess) -> None:
    pipe = Pipe()
    service.start(pipe.write_end)
    os.close(pipe.write_end)
    asked = 200
    assert {answer.status_code for answer in rank(service, asked)} == {200}
    parts: list[bytes] = []
    reader = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(pipe.read_end, 65_536), b"")))
    reader.start()
    service.until(lambda: service.metric("ranker_log_lines_dropped_total") > 0, "dropped")
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    reader.join()
    lines = [json.loads(line) for line in b"".join(parts).splitlines()]
    missing = sum(line["count"] for line in lines if line["event"] == "log_lines_dropped")
    assert missing > 0
    assert sum(line["event"] == "request" for line in lines) + missing == asked
    assert lines[-1]["event"] == "stopped"  # the last lines are written


@pytest.mark.parametrize("option", ["--check-settings", "--help", "--openapi", "--env-example"])
def test_a_command_line_whose_reader_has_seen_enough_ends_without_a_traceback(option: str) -> None:
    whole = run_service({}, option)
    assert (whole.returncode, unexpected(whole.stderr)) == (0, [])
    assert len(whole.stdout) > 100
    pipe = Pipe()
    pipe.close_reader()
    status, errors = run_to_the_end(option, pipe.write_end)
    assert (status, unexpected(errors)) == (0, [])
    os.close(pipe.write_end)


def test_a_command_line_that_cannot_write_says_so() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = run_to_the_end("--openapi", full.fileno())
    assert ended == (1, "service: cannot write to standard output (No space left on device)\n")


def unexpected(errors: str) -> list[str]:
    """Return the lines of standard error except warnings about unsafe settings."""
    return [line for line in errors.splitlines() if not line.startswith("service: warning: RANKER_")]


def run_to_the_end(option: str, output: int) -> tuple[int, str]:
    """Return the exit status and the standard error of a command line with this standard output."""
    with tempfile.TemporaryFile() as errors:
        status = starter().start(dict(os.environ), (option,), output, errors.fileno()).wait(60)
        errors.seek(0)
        return status, errors.read().decode()
