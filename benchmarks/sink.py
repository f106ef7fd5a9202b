"""How fast the sink copies: 200,000 events from a real redis-server to Parquet, `--once`, in one process.

    python -m benchmarks.sink

The mix is of a feed: 16 pieces of feedback and 2 exposures for each logged ranking of 20 items.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from redis import Redis

from contract.events.activity import activity_event
from contract.events.exposures import Exposure
from contract.events.streams import ACTIVITY_STREAM, EVENT_FIELD, EXPOSURE_STREAM, RANKING_STREAM, ulid
from deploy.processes import ROOT, redis_server

EVENTS: Final = 200_000
_NOW: Final = 1_795_608_000_000


def main() -> None:
    """Fill the streams, run the sink, print events/s and its CPU time."""
    with tempfile.TemporaryDirectory() as out, redis_server() as url:
        _fill(url)
        _copy(url, Path(out))


def _fill(url: str) -> None:
    pipe = Redis.from_url(url).pipeline(transaction=False)
    for number, (stream, event) in enumerate(_events()):
        pipe.xadd(stream, {EVENT_FIELD: event})
        if number % 1_000 == 999:
            pipe.execute()
    pipe.execute()


def _copy(url: str, out: Path) -> None:
    command = [sys.executable, "-m", "analysis", "sink", "--out", str(out), "--url", url, "--once"]
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    seconds = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the sink: the server has not been waited for
    written = sum(file.stat().st_size for file in out.rglob("*.parquet"))
    print(f"{EVENTS:,} events in {seconds:.1f} s: {EVENTS / seconds:,.0f} a second on {os.cpu_count()} cores")
    print(f"CPU {used.ru_utime + used.ru_stime:.1f} s, start included; peak memory {used.ru_maxrss / 1024:.0f} MiB")
    print(f"{written / EVENTS:.1f} bytes of Parquet per event")


def _events() -> Iterator[tuple[str, str]]:
    for number in range(EVENTS):
        kind = number % 19
        if kind == 0:
            yield RANKING_STREAM, _ranking(number)
        elif kind < 3:
            yield EXPOSURE_STREAM, _exposure(number)
        else:
            yield ACTIVITY_STREAM, _activity(number)


def _activity(number: int) -> str:
    event = activity_event(
        {
            "user_id": f"user-{number * 7919 % 20_000}", "type": "play_end", "ts": _NOW + number * 13 % 9_000,
            "item_id": str(number * 31 % 5_000), "view_id": f"view-{number}", "play_ms": number * 17 % 60_000,
            "duration_ms": 30_000, "tz_offset": 60, "device_id": f"device-{number % 30_000}",
            "request_id": f"{number // 16:032x}",
        },
        ulid(_NOW), _NOW, str,
    )  # fmt: skip
    return json.dumps(event)


def _exposure(number: int) -> str:
    return Exposure(
        id=ulid(_NOW), ts=_NOW, req=f"{number:032x}", unit_type="user_id", unit=f"user-{number % 20_000}", layer="rank",
        exp="pyramid-vs-mgnm", arm="control", reason="split", slot=number % 10_000, armb=number * 7 % 10_000,
        cfg="7d0a290dc910", exp_salt="salt", forced=0, model="mgnm", ver="1", served_model="mgnm", served_ver="1",
        outcome="ok", k=20, n_cand=200,
    ).model_dump_json()  # fmt: skip


def _ranking(number: int) -> str:
    items = [str((number * 31 + place * 97) % 5_000) for place in range(20)]
    arms = [{"layer": "rank", "exp": "pyramid-vs-mgnm", "arm": "control", "forced": 0}]
    return json.dumps({
        "v": 1, "id": ulid(_NOW), "ts": _NOW, "req": f"{number:032x}", "unit": f"user-{number % 20_000}", "arms": arms,
        "model": "mgnm", "ver": "1", "outcome": "ok", "reasons": [], "latency_us": 900, "n_cand": 200, "k": 20,
        "items": items, "scores": [2.5 - place / 10 + number % 7 / 100 for place in range(20)], "attributes": None,
    })  # fmt: skip


if __name__ == "__main__":
    main()
