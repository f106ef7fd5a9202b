"""The real service as a process: `python -m service` on a free port, with tiny real bundles and two arms."""

from __future__ import annotations

import copy
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import httpx

from deploy.experiments import write_current
from tests.support.builders import TinyModel
from tests.support.redis_server import free_port
from tests.support.warm_service import WarmProcess, starter

ROOT = Path(__file__).resolve().parents[2]

# A machine that runs other tests too may pause for longer than a ranking may take.
PATIENCE = {
    "REDIS__READ_TIMEOUT_MS": "5000", "REDIS__WRITE_TIMEOUT_MS": "5000",
    "LIMITS__DEADLINE_MS": "20000", "LIMITS__MAX_DEADLINE_MS": "20000",
}  # fmt: skip


class ServiceProcess:
    """One service; `settings` are variables without their prefix."""

    models: ClassVar[tuple[str, ...]] = ("mgnm", "pyramid_mixer")  # of the two arms

    def __init__(self, folder: Path, redis_url: str, **settings: str) -> None:
        self.folder, self.log_file = folder, folder / "service.log"
        self.bundles, self.experiments = folder / "bundles", folder / "experiments.yaml"
        if not self.bundles.exists():
            for model in self.models:
                TinyModel(model=model).write(self.bundles)
            write_current(self.experiments)
            document = self.experiments.read_text(encoding="utf-8")
            self.experiments.write_text(document.replace("pyramid_mixer", self.models[-1]), encoding="utf-8")
        self.port = int(settings.get("HTTP__PORT", "0")) or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{settings.get('ADMIN__PORT', self.port)}"
        chosen = {
            "REDIS__URL": redis_url,
            "BUNDLES__ROOT": str(self.bundles),
            "EXPERIMENTS__FILE": str(self.experiments),
            "HTTP__PORT": str(self.port),
            "HTTP__DRAIN_DELAY_MS": "0",
            "STREAMS__SPOOL": str(folder / "spool"),
            **PATIENCE,
            **settings,
        }
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RANKER_")}
        self._environment = plain | {f"RANKER_{name}": value for name, value in chosen.items()}
        self._process: subprocess.Popen[bytes] | WarmProcess | None = None
        self._client = httpx.Client(base_url=self.url, verify=False)  # loading certificates takes a tenth of a second

    def start(self, output: int | None = None) -> ServiceProcess:
        """Start, and wait until it is ready."""
        self._start_warm(output)
        self.until(self._listens, "listening")  # far cheaper to ask than whether it is ready
        self.until(lambda: _is_ready(self._client), "ready")
        return self

    def _start_warm(self, output: int | None = None) -> None:
        with self.log_file.open("wb") as log:
            stream = log.fileno() if output is None else output
            self._process = starter().start(self._environment, (), stream, stream)

    def spawn(
        self,
        output: int | None = None,
        *command: str,
        options: tuple[str, ...] = (),
        descriptors: tuple[int, ...] = (),
    ) -> None:
        """Start a new interpreter, by way of a command; `output` is for both streams, instead of the log file."""
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, sys.executable, "-m", "service", *options], cwd=ROOT, env=self._environment,
                stdout=log if output is None else output, stderr=log if output is None else output,
                pass_fds=descriptors,
            )  # fmt: skip

    def successor(self) -> ServiceProcess:
        """Return another one with the same settings and a log of its own, not started."""
        made = copy.copy(self)
        made.log_file = self.log_file.with_name(f"after-{self.log_file.name}")
        made._process = None
        made._client = httpx.Client(base_url=self.url, verify=False)
        return made

    def with_settings(self, **settings: str) -> ServiceProcess:
        """Return this one, not started yet, with further settings."""
        self._environment |= {f"RANKER_{name}": value for name, value in settings.items()}
        return self

    def refusal(self) -> tuple[int, str]:
        """Start a service that must not start; return its exit status and all output."""
        self._start_warm()
        return self.wait(), self.log()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        """Return the exit status."""
        return self.process.wait(seconds)

    def close(self) -> None:
        self._client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes] | WarmProcess:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def will_log(self, text: str, count: int = 1) -> None:
        """Wait until the log contains a text (`count` times, if more than one): a thread writes it after the event."""
        self.until(lambda: self.log().count(text) >= count, f"logged: {text}")
        assert self.log().count(text) == count or count == 1, self.log()

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric, summed over all series that have these labels."""
        total = 0.0
        for line in self._client.get(f"{self.admin_url}/metrics").text.splitlines():
            series, _, value = line.rpartition(" ")
            wanted = all(f'{label}="{text}"' in series for label, text in labels.items())
            if series.partition("{")[0] == name and wanted:
                total += float(value)
        return total

    def until(self, is_so: Any, what: str, seconds: float = 60) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"not {what}:\n{self.log()}")
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", self.port)) == 0


class PlainService(ServiceProcess):
    """Both arms have the same model, so each start tries and loads one bundle less."""

    models = ("mgnm",)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False
