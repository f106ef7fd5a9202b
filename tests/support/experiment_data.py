"""A folder of Parquet as the sink writes it: simulated users in one experiment, assigned by the real hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from contract.experiments.assignment import snapshot_of
from tests.support.event_tables import DAY, MINUTE, SECOND, T0, Events, Row, exposure, write_rows

EXPERIMENT = "watch-more"


def plan(kind: str = "ab", shares: tuple[int, int] = (5_000, 5_000)) -> dict[str, Any]:
    """An experiments file with one experiment of all users."""
    params = [{}, {"model": "pyramid_mixer"}] if kind == "ab" else [{}, {}]
    places = ([0, shares[0]], [shares[0], 10_000])
    return {
        "schema": 1,
        "revision": "1",
        "layers": [
            {
                "key": "rank",
                "salt": "layer-1",
                "defaults": {"model": "mgnm"},
                "experiments": [
                    {
                        "key": EXPERIMENT,
                        "kind": kind,
                        "salt": "experiment-1",
                        "status": "running",
                        "start": "2026-01-01T00:00:00Z",
                        "end": "2026-01-09T00:00:00Z",
                        "owner": "feed",
                        "slots": [[0, 10_000]],
                        "arms": [
                            {"key": arm, "buckets": [place], "params": one}
                            for arm, place, one in zip(("control", "treatment"), places, params, strict=True)
                        ],
                        "primary": ["playtime", "finish_rate"],
                        "guardrails": ["dislike", "latency_ms_p99"],
                    }
                ],
            }
        ],
    }


def write_plan(path: Path, kind: str = "ab", shares: tuple[int, int] = (5_000, 5_000)) -> Path:
    """Write the experiments file."""
    path.write_text(yaml.safe_dump(plan(kind, shares)), encoding="utf-8")
    return path


def write_data(folder: Path, users: int = 600, lift: float = 0.3, *, days: int = 7, log: bool = True) -> Path:
    """Write `days` before and after the exposure of each user; the treatment plays longer."""
    rng = np.random.default_rng(11)
    snapshot = snapshot_of(plan())
    exposures: list[Row] = []
    rankings: list[Row] = []
    events = Events()
    for place in range(users):
        unit = f"user-{place}"
        decision = snapshot.decide(unit, {}, T0).layers[0]
        arm, first = str(decision.arm), T0 + int(rng.integers(DAY // 2))
        exposures.append(
            exposure(
                unit, arm, first, exp=EXPERIMENT, armb=decision.arm_bucket, slot=decision.slot, exp_salt="experiment-1"
            )
        )
        if log:
            rankings.append(_ranking(unit, arm, first))
        taste = rng.gamma(3, 1 / 3)
        for day in range(-days, days):
            longer = 1 + lift if arm == "treatment" and day >= 0 else 1.0
            visit(events, rng, unit, first + day * DAY, taste * longer)
    end_data(events, T0 + (days + 2) * DAY)
    write_rows(folder, "exposures", exposures)
    write_rows(folder, "activity", events.rows)
    if log:
        write_rows(folder, "rankings", rankings)
    return folder


def visit(events: Events, rng: np.random.Generator, unit: str, start: int, taste: float) -> None:
    """One visit of an hour at most: views one after the other."""
    if rng.random() < 0.2:
        return
    start += int(rng.integers(MINUTE))
    events.add("foreground", start, unit, device="d1", tz_offset=0)
    at = start + SECOND
    for view in range(int(rng.integers(1, 4))):
        length = 30 * SECOND
        played = min(int(20 * SECOND * taste * rng.lognormal(0, 0.3)), 60 * SECOND)
        name = f"{unit}-{at}-{view}"
        about = {"device": "d1", "view": name, "item": f"i{rng.integers(50)}", "duration_ms": length, "tz_offset": 0}
        events.add("play_start", at, unit, **about)
        at += played + SECOND
        events.add("play_end", at, unit, **about, play_ms=played)
    if rng.random() < 0.3:
        events.add("like", at, unit, device="d1", item=f"i{rng.integers(50)}", tz_offset=0)
    if rng.random() < 0.1:
        events.add("dislike", at, unit, device="d1", item=f"i{rng.integers(50)}", tz_offset=0)
    events.add("background", at + SECOND, unit, device="d1", tz_offset=0)


def end_data(events: Events, ts: int) -> None:
    """A user outside the experiment shows that the data go on."""
    events.add("heartbeat", ts, "somebody else", device="d9", tz_offset=0)


def _ranking(unit: str, arm: str, ts: int) -> Row:
    return {
        "id": f"r-{unit}",
        "ts": ts,
        "req": f"r-{unit}",
        "unit": unit,
        "arms": [{"layer": "rank", "exp": EXPERIMENT, "arm": arm, "forced": 0}],
        "outcome": "ok",
        "reasons": [],
        "latency_us": 900,
        "n_cand": 10,
        "k": 10,
        "items": [],
        "attributes": '{"platform": "android"}' if int(unit[-1]) % 2 else '{"platform": "ios"}',
    }
