"""The workload: seeded request bodies, and behaviours written to Redis in the documented format."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import redis

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.records import RECORD_BYTES, Records, item_keys, pack, records_from_columns
from contract.command_line import CommandError

BODIES: Final = 2_000
NOW_MS: Final = 1_700_000_000_000
_PIPELINE: Final = 1_000  # keys of one write


def read_asked(path: Path) -> tuple[list[str], list[str]]:
    """Return the distinct users and items of a behaviours file, in order.

    Raises:
        CommandError: it is not a behaviours file.
        OSError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            pairs = {(row["user_id"], row["item_id"]) for row in csv.DictReader(lines)}
    except (KeyError, UnicodeDecodeError, csv.Error):
        raise CommandError(
            f"{path}: not a behaviours file: CSV in UTF-8 with the columns user_id and item_id"
        ) from None
    if not pairs or any(value is None for pair in pairs for value in pair):
        raise CommandError(f"{path}: it has no behaviours, or lines without a user or an item")
    return sorted({user for user, _ in pairs}), sorted({item for _, item in pairs})


def bodies(
    users: Sequence[str], items: Sequence[str], candidates: int, count: int = BODIES, seed: int = 1
) -> list[bytes]:
    """Return bodies of POST /rank: users in a shuffled cycle, each with random candidates."""
    draw = random.Random(seed)
    order = draw.sample(users, len(users))
    size = min(candidates, len(items))
    return [
        orjson.dumps({"user_id": order[place % len(order)], "candidates": draw.sample(items, size)})
        for place in range(count)
    ]


def read_histories(path: Path) -> dict[str, bytes]:
    """Return the stored value of every user of a behaviours file.

    Raises:
        OSError: it cannot be read.
    """
    rows: dict[str, list[tuple[int, str, int, int, float]]] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            action = ACTION_CODES[row.get("action") or "click"]
            play, value = int(row.get("play_ms") or 0), float(row.get("value") or 0)
            rows.setdefault(row["user_id"], []).append((int(row["ts"]), row["item_id"], action, play, value))
    return {user: pack(_records(sorted(behaviours))) for user, behaviours in rows.items()}


def made_histories(users: Sequence[str], items: Sequence[str], length: int, seed: int = 1) -> dict[str, bytes]:
    """Return a stored value of `length` random clicks for each user."""
    count = len(users) * length
    draw = np.random.default_rng(seed)
    times = NOW_MS + np.tile(np.arange(length, dtype=np.int64), len(users))
    clicks = np.full(count, ACTION_CODES["click"], dtype=np.uint8)
    none = np.zeros(count, dtype=np.int64)
    keys = item_keys(items)[draw.integers(0, len(items), count)]
    stored = pack(records_from_columns(keys, times, clicks, none, none.astype(np.float64)))
    size = RECORD_BYTES * length
    return {user: stored[place * size : (place + 1) * size] for place, user in enumerate(users)}


def _records(behaviours: Sequence[tuple[int, str, int, int, float]]) -> Records:
    times, items, actions, plays, values = zip(*behaviours, strict=True)
    return records_from_columns(
        item_keys(items),
        np.array(times, dtype=np.int64),
        np.array(actions, dtype=np.uint8),
        np.array(plays, dtype=np.int64),
        np.array(values, dtype=np.float64),
    )


def store(url: str, histories: Mapping[str, bytes]) -> None:
    """Write stored values to Redis, under the documented keys."""
    client = redis.Redis.from_url(url)
    users = list(histories)
    for start in range(0, len(users), _PIPELINE):
        with client.pipeline(transaction=False) as pipe:
            for user in users[start : start + _PIPELINE]:
                pipe.set(f"bhv:{{{user}}}", histories[user])
            pipe.execute()
    client.close()
