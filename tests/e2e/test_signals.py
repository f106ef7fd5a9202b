"""SIGTERM ends the process with status 0, whenever it comes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import children
from tests.support.redis_server import RedisServer
from tests.support.service_process import ROOT, PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.onnx]

AWAY = "redis://127.0.0.1:1"
NEW_PID_NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    service = PlainService(tmp_path, AWAY)
    yield service
    service.close()


def catches(number: signal.Signals, process_id: int) -> bool:
    """Say whether a process has a handler for a signal."""
    status = Path(f"/proc/{process_id}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught & 1 << (number - 1))


def until_caught(service: ServiceProcess, process_id: int | None = None) -> None:
    service.until(lambda: catches(signal.SIGTERM, process_id or service.process.pid), "a handler")


def test_the_handlers_come_before_all_imports_that_take_time() -> None:
    script = "import sys, service.__main__; print(*(name for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"asyncio", "fastapi", "numpy", "onnxruntime", "pydantic", "structlog", "uvicorn"})


@pytest.mark.parametrize(
    "later_ms", [0, *(pytest.param(later, marks=pytest.mark.slow) for later in (50, 200, 500)), 100]
)
def test_sigterm_in_the_first_second(service: ServiceProcess, later_ms: int) -> None:
    service.spawn()
    until_caught(service)
    time.sleep(later_ms / 1000)  # the moment is what is tested
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert '"stopped"' in service.log()
    assert "Traceback" not in service.log()


def test_sigterm_while_a_file_that_never_ends_is_read_at_the_start(service: ServiceProcess) -> None:
    """A FIFO stands for a mount that hangs: the thread that reads it cannot be ended."""
    service.experiments.unlink()
    os.mkfifo(service.experiments)
    service._start_warm()
    writers: list[int] = []

    def is_read() -> bool:
        try:
            writers.append(os.open(service.experiments, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # no one has it open
            return False
        return True

    service.until(is_read, "reading")
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert '"stopped"' in service.log()
    os.close(writers[0])


@pytest.mark.slow
def test_sigterm_while_the_start_waits_for_a_frozen_redis(tmp_path: Path, own_redis: RedisServer) -> None:
    own_redis.freeze()
    service = PlainService(tmp_path, own_redis.url)  # it waits for seconds
    service.spawn()
    service.until(lambda: "experiments_accepted" in service.log(), "loaded")
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert '"listening"' not in service.log()
    service.close()


def test_sigterm_again_and_again_until_the_end(service: ServiceProcess) -> None:
    service.start()
    while service.process.poll() is None:
        service.send(signal.SIGTERM)
        time.sleep(0.001)
    assert service.wait() == 0


def test_sigint_in_the_first_second_prints_no_traceback(service: ServiceProcess) -> None:
    service.spawn()
    until_caught(service)
    service.send(signal.SIGINT)
    assert service.wait() == 0
    assert "Traceback" not in service.log()


@pytest.mark.parametrize("is_ready", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sigterm_as_process_1(service: ServiceProcess, is_ready: bool) -> None:
    """Process 1 of a namespace, as in a container: the kernel drops signals for which it has no handler."""
    if not shutil.which("unshare") or subprocess.run([*NEW_PID_NAMESPACE, "true"], check=False).returncode:
        pytest.skip("new process namespaces are not permitted here")
    service.spawn(None, *NEW_PID_NAMESPACE)
    service.until(lambda: children(service.process.pid), "started")
    [process_1] = children(service.process.pid)
    until_caught(service, process_1)
    if is_ready:
        service.until(lambda: '"listening"' in service.log(), "ready")
    os.kill(process_1, signal.SIGTERM)
    assert service.wait() == 0
    assert '"stopped"' in service.log()
