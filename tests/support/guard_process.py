"""The real guard as a process: `python -m analysis guard`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx

from tests.support.redis_server import free_port
from tests.support.warm_service import WarmProcess, starter


class GuardProcess:
    """One guard that reads every second; it expects the sink's files in `folder/events`."""

    def __init__(self, folder: Path, experiments: Path, data: Path | None = None, *flags: str) -> None:
        self.log_file, self.port = folder / "guard.log", free_port()
        options = ("guard", "--data", str(data or folder / "events"), "--experiments", str(experiments))
        options = (*options, "--every", "1s", "--window", "1s", "--settle", "2s", "--metrics-port", str(self.port))
        with self.log_file.open("wb") as log:
            self.process: WarmProcess = starter("analysis").start(
                dict(os.environ), (*options, *flags), log.fileno(), log.fileno()
            )

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log_file.read_text().splitlines() if line.endswith("}")]
        return [found for found in map(json.loads, lines) if found["event"] == event]

    def metric(self, series: str) -> float:
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text
        found = [line for line in text.splitlines() if line.startswith(f"{series} ")]
        return float(found[0].split()[-1]) if found else 0.0

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
