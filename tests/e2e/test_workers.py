"""Several workers behind one port: one supervisor, no answer lost, one reload for all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.callers import Caller, Callers, KeptCallers
from tests.support.processes import children
from tests.support.redis_server import RedisServer
from tests.support.service_process import ROOT, PlainService, ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

BODY = {"user_id": "u1", "candidates": ["i1", "i2", "i3"]}


SETTINGS = {
    "HTTP__WORKERS": "2", "HTTP__DRAIN_DELAY_MS": "300", "LIMITS__MAX_INFLIGHT": "1000",
    "EXPERIMENTS__RELOAD_MS": "3600000",  # files are checked on a signal
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Two workers for tests that leave them running."""
    redis = RedisServer().start()
    service = PlainService(tmp_path_factory.mktemp("service"), redis.url, **SETTINGS)
    yield service.start()
    service.close()
    redis.close()


@pytest.fixture
def service(own_redis: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    """Two workers of the test's own, not started."""
    service = PlainService(tmp_path, own_redis.url, **SETTINGS)
    yield service
    service.close()


def info(service: ServiceProcess) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{service.url}/info").json()
    return answer


def is_replaced(service: ServiceProcess, old: dict[str, Any]) -> bool:
    """Say whether another worker serves in the place of one."""
    new = info(service)["workers"][old["worker"]]
    return bool(new["restarts"] > old["restarts"] and new["process_id"] != old["process_id"])


def callers_of(process_id: int, port: int) -> set[int]:
    """Return the callers' ports of the connections that a process has accepted on a port."""
    inodes = set()
    for one in Path(f"/proc/{process_id}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(str(one.readlink()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    accepted = [row for row in rows if row[1].endswith(f":{port:04X}") and f"socket:[{row[9]}]" in inodes]
    return {int(row[2].rpartition(":")[2], 16) for row in accepted if row[3] == "01"}  # 01: established


def busy(service: ServiceProcess, callers: KeptCallers | Callers, more: int = 500) -> None:
    """Wait until callers have had so many more answers."""
    wanted = sum(callers.seen.values()) + more
    service.until(lambda: sum(callers.seen.values()) > wanted, "busy")


def test_two_workers_share_the_connections_and_say_who_they_are(running: ServiceProcess) -> None:
    callers = KeptCallers(running.port, 200)
    callers.start()
    busy(running, callers)
    workers = info(running)["workers"]
    assert [worker["worker"] for worker in workers] == [0, 1]
    assert {worker["process_id"] for worker in workers} == set(children(running.process.pid))
    assert {worker["status"] for worker in workers} == {"ready"}
    counts = [len(callers_of(worker["process_id"], running.port)) for worker in workers]
    callers.stop()
    assert sum(counts) >= 200
    assert min(counts) >= 50  # a worker that the machine pauses gets fewer
    assert (set(callers.seen), callers.lost) == ({"200"}, set())


@pytest.mark.slow
def test_a_killed_worker_loses_its_own_connections_only_and_is_started_again(running: ServiceProcess) -> None:
    callers = KeptCallers(running.port, 200)
    callers.start()
    busy(running, callers)
    victim, other = info(running)["workers"]
    theirs = callers_of(victim["process_id"], running.port)
    os.kill(victim["process_id"], signal.SIGKILL)
    running.until(lambda: is_replaced(running, victim), "started again")
    busy(running, callers)
    callers.stop()
    assert set(callers.seen) == {"200"}
    assert callers.lost
    assert callers.lost <= theirs
    running.will_log('"worker_died"')
    first, second = info(running)["workers"]
    assert (first["status"], second["status"]) == ("ready", "ready")
    assert second["process_id"] == other["process_id"]


RANKINGS = re.compile(r'^ranker_requests_total\{route="/rank",status="200",variant="[^"]*"\} (\S+)$', re.M)


def rankings(service: ServiceProcess) -> int:
    """Return how many rankings /metrics counts, asked over a new connection."""
    answer = httpx.get(f"{service.url}/metrics")
    assert answer.status_code == 200
    return int(sum(float(value) for value in RANKINGS.findall(answer.text)))


@pytest.mark.parametrize("is_killed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_metrics_of_any_worker_count_what_all_have_answered(running: ServiceProcess, is_killed: bool) -> None:
    before = rankings(running)
    callers = KeptCallers(running.port, 20)
    callers.start()
    busy(running, callers, 200)
    callers.stop()
    sent = callers.seen["200"]
    assert {rankings(running) for _ in range(8)} == {before + sent}
    if is_killed:
        victim = info(running)["workers"][1]
        os.kill(victim["process_id"], signal.SIGKILL)
        seen = [rankings(running)]
        while not is_replaced(running, victim):
            seen.append(rankings(running))
        assert {*seen, *(rankings(running) for _ in range(8))} == {before + sent}
        assert running.metric("ranker_worker_restarts_total") >= 1
    assert running.metric("ranker_workers") == running.metric("ranker_workers_wanted") == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_mid_traffic_loses_nothing(service: ServiceProcess, number: signal.Signals) -> None:
    service.start()
    callers = [Caller(service.port, keeps=keeps) for keeps in (True, True, False, False)]
    for caller in callers:
        caller.start()
    service.until(lambda: sum(sum(caller.seen.values()) for caller in callers) > 200, "busy")
    service.send(number)
    for caller in callers:
        caller.join(30)
    assert service.wait() == 0
    seen = sum((caller.seen for caller in callers), Counter[str]())
    assert set(seen) == {"200"}
    assert service.log().count('"stopped"') == 3
    assert '"abandoned"' not in service.log()
    assert "Traceback" not in service.log()


@pytest.mark.slow
def test_a_signal_to_the_whole_group_is_one_drain(service: ServiceProcess) -> None:
    """Ctrl-C, and a service manager that ends a control group, reach the workers too."""
    service.start()
    callers = [Caller(service.port, keeps=keeps) for keeps in (True, False)]
    for caller in callers:
        caller.start()
    service.until(lambda: sum(sum(caller.seen.values()) for caller in callers) > 100, "busy")
    for process_id in [*children(service.process.pid), service.process.pid]:
        os.kill(process_id, signal.SIGTERM)
    for caller in callers:
        caller.join(30)
    assert service.wait() == 0
    assert set(callers[0].seen + callers[1].seen) == {"200"}


@pytest.mark.slow
def test_a_second_signal_ends_the_wait(service: ServiceProcess, own_redis: RedisServer) -> None:
    service.start()
    own_redis.freeze()
    callers = KeptCallers(service.port, 2)
    callers.start()
    connected = lambda: [len(callers_of(one, service.port)) for one in children(service.process.pid)]  # noqa: E731
    service.until(lambda: sum(connected()) >= 2, "connected")
    service.send(signal.SIGTERM)
    service.will_log('"draining"')
    service.send(signal.SIGTERM)
    callers.join(30)
    own_redis.thaw()
    assert service.wait() == 0
    assert callers.seen["503"] == 2


def test_sighup_to_the_supervisor_reloads_all_workers(running: ServiceProcess) -> None:
    before = {worker["experiments"] for worker in info(running)["workers"]}
    assert len(before) == 1
    text = running.experiments.read_text()
    running.experiments.write_text(text.replace("revision: ", "revision: next-"))
    assert running.experiments.read_text() != text
    running.send(signal.SIGHUP)

    def digests() -> set[str]:
        return {worker["experiments"] for worker in info(running)["workers"]}

    running.until(lambda: len(digests()) == 1 and digests() != before, "reloaded")


@pytest.mark.slow
def test_sigterm_to_one_worker_replaces_it_and_loses_nothing(service: ServiceProcess) -> None:
    service.start()
    callers = Callers(service.port, rate=50)
    callers.start()
    busy(service, callers, 20)
    leaving = children(service.process.pid)[0]
    os.kill(leaving, signal.SIGTERM)
    service.will_log('"worker_started"')
    service.until(lambda: leaving not in children(service.process.pid), "gone")
    busy(service, callers, 20)
    seen = callers.stop()
    assert set(seen) == {"200"}
    assert '"worker_died"' not in service.log()
    service.until(lambda: rankings(service) == seen["200"], "counted, the last ones of the worker that left too")


@pytest.mark.slow
def test_workers_end_when_the_supervisor_is_killed(service: ServiceProcess) -> None:
    service.start()
    workers = children(service.process.pid)
    service.process.kill()
    service.wait()
    for worker in workers:
        subprocess.run(["tail", f"--pid={worker}", "-f", "/dev/null"], check=True, timeout=30)
    assert service.log().count('"supervisor_gone"') == 2


@pytest.mark.slow
def test_a_hung_worker_is_killed_and_started_again(service: ServiceProcess) -> None:
    service.start()
    hung = children(service.process.pid)[0]
    os.kill(hung, signal.SIGSTOP)
    service.until(lambda: '"worker_started"' in service.log(), "started again", seconds=90)
    assert hung not in children(service.process.pid)
    service.will_log('"worker_hung"')


@pytest.mark.parametrize("is_loaded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sigterm_during_the_start(service: ServiceProcess, is_loaded: bool) -> None:
    service.spawn(options=("--workers", "3"))
    service.until(lambda: children(service.process.pid), "starting")
    if is_loaded:
        service.until(lambda: "experiments_accepted" in service.log(), "one of them loaded")
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert "Traceback" not in service.log()


def test_what_cannot_start_is_told_once(service: ServiceProcess) -> None:
    service.experiments.write_text("nonsense")
    status, said = service.refusal()
    assert status == 1
    assert said.count("cannot be served") == 1
    assert said.endswith("service: worker 0 did not start (status 1); the lines above say why\n")


def test_a_number_of_workers_that_cannot_be_used_is_refused() -> None:
    done = subprocess.run([sys.executable, "-m", "service", "--workers", "0"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "service: --workers: a number from 1 to 256\n")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_successor_with_another_number_of_workers_takes_over_and_loses_nothing(
    service: ServiceProcess, workers: str
) -> None:
    service.start()
    callers = Callers(service.port, rate=50)
    callers.start()
    busy(service, callers, 20)
    successor = service.successor()
    successor.spawn(options=("--replace", "--workers", workers))
    successor.until(lambda: '"listening"' in successor.log(), "listening")
    assert service.wait() == 0
    busy(successor, callers, 20)
    assert set(callers.stop()) == {"200"}
    successor.close()
