"""Start and stop the processes of a local stack: a real Redis, the service, and other command lines. For the demo."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from contract.command_line import STOPPED, CommandError
from deploy.local_redis import answers, executable, socket_folder, socket_of

ROOT = Path(__file__).resolve().parent.parent
QUIET_SECONDS: Final = 60.0  # without any work or output of the awaited process
MOST_SECONDS: Final = 600.0  # in all
_LOOK_SECONDS: Final = 0.05
_TOLD_SECONDS: Final = 10.0  # between two lines that name the awaited process
_LAST_LINES: Final = 12


class StartError(CommandError):
    """A process did not start; the details are its last output."""


class StepError(CommandError):
    """A command of another package failed; its output is above."""


@dataclass(frozen=True)
class Child:
    """An awaited process, and the file of its output."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_words(self) -> str:
        """Return its last output."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        except OSError:
            lines = []
        return "\n".join([f"the end of {self.log}:", *lines]) if lines else "it printed nothing"

    def progress(self) -> object:
        """Return a value that changes while it works or prints: processor time, and the size of its output."""
        return cpu_time(self.process.pid), self.log.stat().st_size if self.log.exists() else 0


def client(url: str) -> httpx.Client:
    """Return a client of a service on this machine: it uses no proxy, and its timeouts allow for a busy machine."""
    return httpx.Client(base_url=url, trust_env=False, timeout=30)


def port_number(text: str) -> int:
    """Read a TCP port of a command line.

    Raises:
        ValueError: it is not a port.
    """
    port = int(text)
    if not 0 < port < 65_536:
        raise ValueError(f"{port} is not a port: 1 to 65535")
    return port


def free_port(preferred: int) -> int:
    """Return the preferred TCP port of the loopback interface, or another free one if it is taken."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartError("no free TCP port on 127.0.0.1")


def run_step(arguments: Sequence[str]) -> None:
    """Run `python -m PACKAGE ...` with the output of this process.

    Raises:
        StepError: it ended with an error.
        KeyboardInterrupt: it was stopped by Ctrl-C.
    """
    check_ended(arguments, subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=False).returncode)


def check_ended(arguments: Sequence[str], status: int) -> None:
    """Raise the error of a command's exit status; see `run_step`."""
    if status in (STOPPED, -signal.SIGINT):
        raise KeyboardInterrupt
    if status:
        raise StepError(f"python -m {' '.join(arguments)} failed with status {status}")


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a `redis-server` on a unix socket, without persistence; yields its URL.

    Raises:
        StartError: it did not come up.
        NoRedisError: there is none on this machine.
    """
    directory = socket_folder()
    path, log = socket_of(directory), directory / "redis.log"
    command = [executable(), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(directory)]
    try:
        # In a separate session: Ctrl-C ends the service first, and Redis after it.
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            wait_for(lambda: answers(path), Child("redis-server", process, log))
            yield f"unix://{path}"
        finally:
            _stop(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def service(environment: Mapping[str, str], port: int, log: Path) -> Iterator[str]:
    """Run `python -m service` until the block ends; yields its base URL when it is ready.

    Raises:
        StartError: it exited, or made no progress before it was ready.
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
            with client(url) as asking:
                wait_for(lambda: _is_ready(asking), Child("service", process, log))
            yield url
        finally:
            _stop(process)


@contextmanager
def child(name: str, arguments: Sequence[str], log: Path) -> Iterator[None]:
    """Run `python -m PACKAGE ...` beside this process until the block ends.

    Args:
        name: for errors.
        arguments: after `python -m`.
        log: file of its output.

    Raises:
        StartError: it had ended before the block did.
    """
    command = [sys.executable, "-m", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            yield
            if process.poll() is not None:
                raise StartError(
                    f"{name} ended with status {process.returncode}", Child(name, process, log).last_words()
                )
        finally:
            _stop(process)


def wait_for(
    done: Callable[[], bool], child: Child, quiet_seconds: float = QUIET_SECONDS, most_seconds: float = MOST_SECONDS
) -> None:
    """Wait until a process is done, as long as it makes progress, even on a slow machine.

    Raises:
        StartError: it ended, made no progress for `quiet_seconds`, or was not done after `most_seconds`.
    """
    began = active = told = time.monotonic()
    known = child.progress()
    while not done():
        if child.process.poll() is not None:
            raise StartError(f"{child.name} ended with status {child.process.returncode}", child.last_words())
        now, seen = time.monotonic(), child.progress()
        if seen != known:
            known, active = seen, now
        if now - active > quiet_seconds:
            raise StartError(f"{child.name} has done nothing for {quiet_seconds:.0f} s", child.last_words())
        if now - began > most_seconds:
            raise StartError(f"{child.name} was not ready after {most_seconds:.0f} s", child.last_words())
        if now - told > _TOLD_SECONDS:
            told = now
            print(f"waiting for {child.name}: {now - began:.0f} s; its output: {child.log}", flush=True)
        time.sleep(_LOOK_SECONDS)


def cpu_time(pid: int) -> str:
    """Return the processor time of a process in some unit, "" if the machine does not provide it."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        if stat.exists():
            return " ".join(stat.read_text().rpartition(")")[2].split()[11:13])  # user and system time
        return subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _is_ready(asking: httpx.Client) -> bool:
    try:
        return asking.get("/health/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
