"""A generated log in which the device decides the taste: on a phone users take short films, at a desk long ones.

Which half of the items is which does not show in any history, so only a model that reads the device can rank well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.support.own_files import write_rows

DEVICES: Final = ("phone", "desk")
MAPPING: Final = 'context = ["device"]\n'
START_MS: Final = 1_750_000_000_000
_HOUR_MS: Final = 3_600_000


def device_rows(users: int = 60, events: int = 24, items: int = 40, seed: int = 5) -> list[dict[str, Any]]:
    """Return the rows of the log: the device of each event is drawn at random, and events are hours apart."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        times = START_MS + np.cumsum(rng.integers(_HOUR_MS // 60, 10 * _HOUR_MS, events))
        for time_ms in times.tolist():
            device = int(rng.integers(2))
            item = device * items // 2 + int(rng.integers(items // 2))
            rows.append({"user_id": f"u{user}", "item_id": f"i{item}", "ts": time_ms, "device": DEVICES[device]})
    return sorted(rows, key=lambda row: (row["ts"], row["user_id"]))


def write_device_log(folder: Path, **sizes: int) -> Path:
    """Write the log and its mapping; returns the path of the log."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "films.toml").write_text(MAPPING, encoding="utf-8")
    return write_rows(folder / "films.csv", device_rows(**sizes))
