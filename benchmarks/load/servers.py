"""Starts and stops a Redis and servers that answer POST /rank, each with its worker processes."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.load.usage import MARK, Usage, family, usage
from benchmarks.load.wrk import Closed, Wrk
from contract.command_line import CommandError
from deploy.local_redis import executable
from deploy.processes import ROOT, free_port

START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.05
_LAST_LINES: Final = 12
HOST: Final = "127.0.0.1"


@dataclass(eq=False)
class Server:
    """A server that runs."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://{HOST}:{self.port}"

    def pids(self) -> list[int]:
        """Return all of its processes."""
        return family(self.process.pid, self.mark)

    def usage(self) -> Usage:
        """Return what all of its processes use."""
        return usage(self.pids())

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    is_ready: Callable[[int], bool],
) -> Iterator[Server]:
    """Run a server until the block ends; yields it when it is ready.

    Raises:
        CommandError: it ended, or was not ready in time.
    """
    mark = secrets.token_hex(8)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, MARK: mark},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(name, port, process, mark, log)
    try:
        _wait(server, is_ready)
        yield server
    finally:
        _stop(server)


def ours(
    folder: Path, *, redis_url: str, bundles: Path, logs: Path, name: str = "ours", settings: Mapping[str, str] = {}
) -> Iterator[Server]:
    """Run `python -m service` of a checkout: all features on, its output in a file."""
    port = free_port(0)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RANKER_")},
        "RANKER_REDIS__URL": redis_url,
        "RANKER_BUNDLES__ROOT": str(bundles),
        "RANKER_BUNDLES__DEFAULT_MODEL": "pyramid_mixer",
        # Each service has a separate one: it must not take over a state that another has accepted.
        "RANKER_EXPERIMENTS__STATE": f"redis:{secrets.token_hex(8)}",
        "RANKER_STREAMS__SPOOL": str(logs / f"spool-{port}"),
        "RANKER_HTTP__PORT": str(port),
        "RANKER_HTTP__DRAIN_DELAY_MS": "0",
        "RANKER_HTTP__DOCS_ENABLED": "true",
        **settings,
    }
    with running(
        name,
        [sys.executable, "-m", "service"],
        port=port,
        environment=environment,
        folder=folder,
        log=logs / f"{name}-{port}.log",
        is_ready=answers("/health/ready"),
    ) as server:
        yield server


our_service = contextmanager(ours)


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a `redis-server` on a TCP port of the loopback interface, without persistence; yields its URL."""
    port = free_port(0)
    folder = Path(tempfile.mkdtemp(prefix="ranker-bench-redis-"))
    command = [executable(), "--port", str(port), "--bind", HOST, "--save", "", "--dir", str(folder)]
    try:
        with running(
            "redis", command, port=port, environment=dict(os.environ), folder=folder,
            log=folder / "redis.log", is_ready=_listens,
        ):  # fmt: skip
            yield f"redis://{HOST}:{port}/0"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers(path: str) -> Callable[[int], bool]:
    """Return a test whether a port answers GET `path` with 200."""

    def is_ready(port: int) -> bool:
        request = f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"
        with suppress(OSError), socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(request.encode())
            return connection.recv(64).split(b" ", 2)[1:2] == [b"200"]
        return False

    return is_ready


def measure(server: Server, wrk: Wrk, connections: int, seconds: float, path: str = "/rank") -> dict[str, float]:
    """Measure one closed loop: requests per second, latencies in ms, processor time in us per request, memory."""
    pids = server.pids()
    before = usage(pids)
    closed = wrk.run(server.url, connections, seconds, path)
    after = usage(pids)
    return figures_of(closed, after.cpu_seconds - before.cpu_seconds, after)


def figures_of(closed: Closed, cpu_seconds: float, after: Usage) -> dict[str, float]:
    """Return the figures of one closed loop by name; the processor time of refusals counts for the good answers."""
    return {
        "rate": closed.rate,
        "p50_ms": closed.p50_ms,
        "p99_ms": closed.p99_ms,
        "cpu_us": 1e6 * cpu_seconds / closed.requests if closed.requests else float("nan"),
        "cores": cpu_seconds / closed.seconds,
        "refused": closed.refused,
        "lost": closed.lost,
        "resident_mib": after.resident_bytes / 2**20,
        "client_cpu_us": 1e6 * closed.client_cpu_seconds / max(1, closed.requests + closed.refused),
    }


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _wait(server: Server, is_ready: Callable[[int], bool]) -> None:
    until = time.monotonic() + START_SECONDS
    while not is_ready(server.port):
        if server.process.poll() is not None:
            raise CommandError(f"{server.name} ended with status {server.process.returncode}", server.last_words())
        if time.monotonic() > until:
            raise CommandError(f"{server.name} was not ready after {START_SECONDS:.0f} s", server.last_words())
        time.sleep(_LOOK_SECONDS)


def _stop(server: Server) -> None:
    pids = server.pids()
    with suppress(ProcessLookupError):
        server.process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.process.wait(_STOP_SECONDS)
    for pid in {*pids, *server.pids()}:  # workers whose parent left them
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait()


__all__ = ["ROOT", "Server", "answers", "figures_of", "measure", "our_service", "redis_server", "running"]
