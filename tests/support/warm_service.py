"""Starts `python -m service` from an interpreter that has done its imports: a second of processor time less.

Each start is a fork of that interpreter: a process of its own, with its own environment and standard streams, that runs
`service/__main__.py`. Another interpreter does the same for the sink and `analysis/__main__.py`. A test of the moments
before the imports needs a cold start: `ServiceProcess.spawn`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.inference.fork_server import ForkServer

ROOT = Path(__file__).resolve().parents[2]


class WarmProcess:
    """A process that was forked; as much of `subprocess.Popen` as tests need."""

    def __init__(self, starter: Starter, pid: int) -> None:
        self._starter, self.pid = starter, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._starter.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if timeout is not None and deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("service", timeout)
            time.sleep(0.005)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class Starter:
    """The interpreter that forks; it and its children end with this process."""

    def __init__(self, package: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.support.warm_service", package, str(theirs.fileno())]
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=(theirs.fileno(),))
        atexit.register(self.close)

    def start(self, environment: dict[str, str], options: tuple[str, ...], output: int, errors: int) -> WarmProcess:
        """Start a process that has these standard streams."""
        message = {"environment": environment, "options": options}
        return WarmProcess(self, self.ask(message, output, errors))

    def ask(self, message: dict[str, Any], *descriptors: int) -> Any:
        """Send a message and return the answer."""
        socket.send_fds(self._socket, [json.dumps(message).encode()], descriptors)
        return json.loads(self._socket.recv(1 << 10))

    def forks(self) -> ForkServer:
        """Return what starts the processes that try bundles, for services in this process, which has threads."""
        from service.inference.fork_server import ForkServer

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            return ForkServer(ours, self.ask({"forks": True}, theirs.fileno()))

    def close(self) -> None:
        """End the interpreter, and what still runs of its children."""
        self._socket.close()
        self._process.wait()


@cache
def starter(package: str = "service") -> Starter:
    """The one of this process for a package: `service` or `analysis`."""
    return Starter(package)


def run_service(settings: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m service` to its end; `settings` are variables without their prefix."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RANKER_")}
    environment = plain | {f"RANKER_{name}": value for name, value in settings.items()}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = starter().start(environment, options, output.fileno(), errors.fileno())
        status = process.wait(60)
        said = [stream.seek(0) or stream.read().decode() for stream in (output, errors)]
    return subprocess.CompletedProcess(options, status, *said)


def _serve(commands: socket.socket, package: str) -> None:
    """Fork a process for each message that has an environment; say how one ended for each that asks."""
    _import_all(package)
    gc.freeze()  # a fork that collects garbage would copy all of it
    running: set[int] = set()
    while True:
        content, descriptors, _, _ = socket.recv_fds(commands, 1 << 20, 2)
        if not content:  # the tests are over, or were killed
            return _end(running)
        message = json.loads(content)
        if "poll" in message:
            answer = _ended(message["poll"])
            running -= set() if answer is None else {message["poll"]}
        else:
            answer = os.fork()
            if answer == 0:
                commands.close()
                _become(package, message, *descriptors)
            running.add(answer)
            for descriptor in descriptors:
                os.close(descriptor)
        commands.send(json.dumps(answer).encode())


def _import_all(package: str) -> None:
    """Import what the package imports when it starts, FastAPI's own late imports included."""
    if package == "analysis":
        import analysis.commands.sink
        import analysis.sink.worker  # noqa: F401

        return
    import service.app.serving
    import service.command_line
    import service.process.server  # noqa: F401
    from service.http.api import openapi_json

    openapi_json()


def _ended(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _end(running: set[int]) -> None:
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    for pid in running:
        os.waitpid(pid, 0)


def _become(package: str, message: dict[str, Any], *descriptors: int) -> None:
    import runpy

    if "forks" in message:
        from service.inference import fork_server

        fork_server.become(*descriptors)
    output, errors = descriptors
    for descriptor, number in ((output, 1), (errors, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(message["environment"])
    sys.argv[1:] = message["options"]
    status: object = 70
    try:
        runpy.run_module(package, run_name="__main__", alter_sys=True)
    except SystemExit as end:  # a service ends by itself
        status = end.code or 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    os.setpgid(0, 0)  # Ctrl-C is for the tests
    _serve(socket.socket(fileno=int(sys.argv[2])), sys.argv[1])
