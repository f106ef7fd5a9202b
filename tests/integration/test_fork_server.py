"""Proofs are forks of a small server; it and they end with the service."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.inference.engine import EngineError
from service.inference.fork_server import ForkServer
from service.inference.prover import Prover
from tests.integration.test_prover import asked
from tests.support.builders import TinyModel
from tests.support.processes import children, few_files, is_alive, name_of, open_files
from tests.support.waiting import until, wait_until
from tests.support.warm_service import starter

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]

ROOT = Path(__file__).resolve().parents[2]
_OPEN = 4  # files of a server: the standard streams and its socket
ENDLESS = TinyModel(trips=2**60)
SERVICE = """
import asyncio, sys
from service.inference.fork_server import ForkServer

async def main(forks):
    print(forks.pid, flush=True)
    proof = await forks.start(sys.stdin.buffer.readline())
    await proof.ended()

with ForkServer.begun() as forks:
    asyncio.run(main(forks))
"""
"""As much of a service as has a proof in progress."""


@pytest.fixture
def own_forks() -> Iterator[ForkServer]:
    """Return a server that no other test uses."""
    server = starter().forks()
    yield server
    server.close()


async def begun(server: ForkServer) -> None:
    """Wait until a server has left the service; it has then opened and closed what it wanted to."""
    await until(lambda: name_of(server.pid) == "ranker-proofs" and len(open_files(server.pid)) == _OPEN)


async def running(server: ForkServer) -> int:
    """Wait for the proof that a server runs, and return its number."""
    await until(lambda: bool(children(server.pid)))
    return children(server.pid)[0]


async def test_a_fork_finds_what_a_new_interpreter_does(tmp_path: Path, own_forks: ForkServer) -> None:
    request = asked(TinyModel(reads_time=True), tmp_path)
    forked, fresh = await Prover(own_forks)(request), await Prover()(request)
    assert (forked.digest, forked.provider, forked.threads) == (fresh.digest, fresh.provider, fresh.threads)
    assert await Prover(own_forks)(request) != forked  # the server is there for another one; times differ
    assert children(own_forks.pid) == []


async def test_the_server_has_nothing_open_but_its_socket(own_forks: ForkServer) -> None:
    await begun(own_forks)
    opened = open_files(own_forks.pid)
    assert [opened.pop(stream) for stream in range(3)] == ["/dev/null"] * 3
    assert [name.split(":")[0] for name in opened.values()] == ["socket"]
    assert os.getpgid(own_forks.pid) == own_forks.pid  # a terminal's Ctrl-C does not reach it


async def test_a_proof_gives_way_and_the_server_does_not(tmp_path: Path, own_forks: ForkServer) -> None:
    task = asyncio.create_task(Prover(own_forks)(asked(ENDLESS, tmp_path)))
    fork = await running(own_forks)
    await until(lambda: os.sched_getscheduler(fork) == os.SCHED_IDLE)
    assert os.sched_getscheduler(own_forks.pid) == os.SCHED_OTHER
    opened = open_files(fork).values()
    assert sum(name.startswith("socket") for name in opened) == 1  # its answer's, not the server's
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children(own_forks.pid) == []


async def test_a_fork_that_dies_is_a_refusal_that_names_the_signal(tmp_path: Path, own_forks: ForkServer) -> None:
    task = asyncio.create_task(Prover(own_forks)(asked(ENDLESS, tmp_path)))
    os.kill(await running(own_forks), signal.SIGSEGV)
    with pytest.raises(EngineError, match="was ended by SIGSEGV"):
        await task
    assert (await Prover(own_forks)(asked(TinyModel(version="2"), tmp_path))).provider == "cpu"


@pytest.mark.parametrize("is_running", [False, True])
async def test_without_its_server_a_bundle_is_tried_in_a_new_interpreter(
    tmp_path: Path, own_forks: ForkServer, is_running: bool
) -> None:
    prove, request = Prover(own_forks), asked(TinyModel(users=3), tmp_path)
    if is_running:
        os.kill(own_forks.pid, signal.SIGSTOP)
        task = asyncio.create_task(prove(request))
        await asyncio.sleep(0.1)
    os.kill(own_forks.pid, signal.SIGKILL)
    with capture_logs() as logs:
        proof = await (task if is_running else prove(request))
        assert await prove(request) != proof
    assert [line["event"] for line in logs] == ["fork_server_gone"]


async def test_a_server_that_cannot_fork_now_refuses_and_can_later(tmp_path: Path, own_forks: ForkServer) -> None:
    await begun(own_forks)
    prove, request = Prover(own_forks), asked(TinyModel(), tmp_path)
    with (
        few_files(own_forks.pid, more=1),
        pytest.raises(EngineError, match=r"started to try it.*open files"),
    ):
        await prove(request)
    with capture_logs() as logs:
        assert (await prove(request)).provider == "cpu"
    assert logs == []


async def test_a_server_that_cannot_take_a_request_is_done_without(tmp_path: Path, own_forks: ForkServer) -> None:
    await begun(own_forks)
    with few_files(own_forks.pid), capture_logs() as logs:
        assert (await Prover(own_forks)(asked(TinyModel(), tmp_path))).provider == "cpu"
    assert [line["event"] for line in logs] == ["fork_server_gone"]


async def test_an_answer_without_a_status_is_not_believed(tmp_path: Path, own_forks: ForkServer) -> None:
    """The proof ends after its server: none can tell whether it was killed."""
    request = asked(TinyModel(trips=200_000), tmp_path, limit_seconds=400.0)  # a quarter of it gives way
    task = asyncio.create_task(Prover(own_forks)(request))
    fork = await running(own_forks)
    os.kill(fork, signal.SIGSTOP)
    os.kill(own_forks.pid, signal.SIGKILL)
    os.kill(fork, signal.SIGCONT)
    with capture_logs() as logs:
        assert (await task).provider == "cpu"
    assert [line["event"] for line in logs] == ["fork_server_gone"]


async def test_a_proof_that_lost_its_server_holds_up_nobody(tmp_path: Path, own_forks: ForkServer) -> None:
    task = asyncio.create_task(Prover(own_forks)(asked(ENDLESS, tmp_path, limit_seconds=4.0)))
    fork = await running(own_forks)
    os.kill(own_forks.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="took longer than 4 s"):
        await task
    with suppress(ProcessLookupError):
        os.kill(fork, signal.SIGKILL)  # its alarm comes later on a busy machine


def test_the_server_and_a_proof_end_with_a_service_that_was_killed(tmp_path: Path) -> None:
    request = json.dumps(asdict(asked(ENDLESS, tmp_path))).encode()
    with subprocess.Popen([sys.executable, "-c", SERVICE], cwd=ROOT, stdin=-1, stdout=-1) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        service.stdin.write(request + b"\n")
        service.stdin.flush()
        server = int(service.stdout.readline())
        wait_until(lambda: bool(children(server)))
        [fork] = children(server)
        os.kill(server, signal.SIGTERM)  # as with a signal to all: the service decides
        assert is_alive(server)
        service.kill()
    wait_until(lambda: not is_alive(server) and not is_alive(fork))
