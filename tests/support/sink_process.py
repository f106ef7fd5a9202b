"""The real sink as a process, events for it, and what it has written."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
from redis import Redis

from contract.events.activity import activity_event
from contract.events.exposures import Exposure
from contract.events.streams import ACTIVITY_STREAM, EVENT_FIELD, ulid
from tests.support.redis_server import RedisServer
from tests.support.warm_service import WarmProcess, starter

ROOT = Path(__file__).resolve().parents[2]
NOON = 1_795_608_000_000  # 2026-11-25 12:00 UTC


class SinkProcess:
    """One sink, and later ones under the same name; `flags` are those of the command line."""

    def __init__(self, out: Path, url: str, *flags: str) -> None:
        self.out, self.log_file = out, out.with_name(f"{out.name}.log")
        self._options = ("sink", "--out", str(out), "--url", url, "--metrics-port", "0", *flags)
        self._process: WarmProcess | None = None

    def start(self) -> SinkProcess:
        self.log_file.unlink(missing_ok=True)
        with self.log_file.open("wb") as log:
            self._process = starter("analysis").start(dict(os.environ), self._options, log.fileno(), log.fileno())
        return self

    def run(self) -> int:
        """Run to the end; returns the exit status."""
        return self.start().wait()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(100)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = self.log_file.read_text().splitlines() if self.log_file.exists() else []
        documents = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [document for document in documents if document["event"] == event]

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait for a condition while the process runs."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None, self.log_file.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log_file.read_text()[-2000:]
            time.sleep(0.002)


def activity(number: int, ts: int = NOON) -> bytes:
    report: Any = {"user_id": f"u{number % 5000}", "type": "like", "item_id": f"i{number % 900}", "ts": ts}
    return json.dumps(activity_event(report, ulid(ts, number), ts, str)).encode()


def exposure(number: int, ts: int = NOON) -> bytes:
    return (
        Exposure(
            id=ulid(ts, number), ts=ts, req=f"r{number}", unit_type="user_id", unit=f"u{number}", layer="rank",
            exp="pyramid-vs-mgnm", arm="control", reason="split", slot=4, armb=5, cfg="7d0a290dc910", exp_salt="salt",
            forced=0, model="mgnm", ver="1", served_model="mgnm", served_ver="1", outcome="ok", k=20, n_cand=200,
        )
        .model_dump_json()
        .encode()
    )  # fmt: skip


def ranking(number: int, ts: int = NOON) -> bytes:
    event = {
        "v": 1, "id": ulid(ts, number), "ts": ts, "req": f"r{number}", "unit": f"u{number}",
        "arms": [{"layer": "rank", "exp": "pyramid-vs-mgnm", "arm": "control", "forced": 0}], "model": "mgnm",
        "ver": "1", "outcome": "ok", "reasons": [], "latency_us": 800, "n_cand": 200, "k": 2, "items": ["a", "b"],
        "scores": [1.5, None], "attributes": {"platform": "ios"},
    }  # fmt: skip
    return json.dumps(event).encode()


def client(server: RedisServer) -> Redis:
    return Redis(unix_socket_path=str(server.socket))


def feed(redis: Redis, events: Iterable[bytes], stream: str = ACTIVITY_STREAM) -> None:
    pipe = redis.pipeline(transaction=False)
    for event in events:
        pipe.xadd(stream, {EVENT_FIELD: event})
    pipe.execute()


def files(out: Path, table: str = "activity") -> list[Path]:
    return sorted(out.glob(f"{table}/date=*/*.parquet"))


def written(out: Path, table: str = "activity") -> tuple[int, int]:
    """Rows in the files, repeats included, and distinct ids."""
    names = [str(file) for file in files(out, table)]
    if not names:
        return 0, 0
    connection = duckdb.connect()
    counted = connection.read_parquet(names).aggregate("count(*), count(DISTINCT id)").fetchall()
    return counted[0][0], counted[0][1]
