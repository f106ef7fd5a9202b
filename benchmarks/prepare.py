"""Time, CPU time and peak memory of `training prepare` on a generated log of any size.

    python -m benchmarks.prepare --rows 20000000

The log is a folder of Parquet (or CSV) parts of 1,000,000 rows: 500,000 users, 200,000 items with a long tail, rising
times, a third of the rows impressions. The memory is that of the whole process (VmHWM), libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

USERS: Final = 500_000
ITEMS: Final = 200_000
PART: Final = 1_000_000
START_MS: Final = 1_740_960_000_000
ACTIONS: Final = ("impression", "click", "like")
# The child reports its own peak: the figure that a parent gets includes the parent's memory at the fork.
_CHILD: Final = """
from training.__main__ import main
status = main()
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1])
raise SystemExit(status)
"""


def write_log(folder: Path, rows: int, ending: str) -> int:
    """Write the parts; returns their bytes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for part, start in enumerate(range(0, rows, PART)):
        count = min(PART, rows - start)
        table = pa.table(
            {
                "user": _names("u", (rng.random(count) ** 2 * USERS).astype(np.int64)),
                "item": _names("i", (rng.random(count) ** 3 * ITEMS).astype(np.int64)),
                "ts": START_MS + (start + np.arange(count)) * 40,
                "action": pa.DictionaryArray.from_arrays(
                    rng.choice(3, size=count, p=(0.33, 0.6, 0.07)).astype(np.int32), list(ACTIONS)
                ).cast(pa.string()),
                "play_ms": rng.integers(0, 100_000, size=count),
            }
        )
        path = folder / f"{part:05d}.{ending}"
        _WRITERS[ending](table, path)
    return sum(path.stat().st_size for path in folder.iterdir())


def _names(letter: str, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
    return pc.binary_join_element_wise(letter, pa.array(numbers).cast(pa.string()), "")


_WRITERS: Final[dict[str, Any]] = {"parquet": pq.write_table, "csv": pcsv.write_csv}


def measure(log: Path, out: Path) -> dict[str, float]:
    """Prepare the log in a process of its own; returns seconds, CPU seconds and MiB."""
    began, cpu = time.perf_counter(), os.times()
    words = [sys.executable, "-c", _CHILD, "prepare", str(log), "--out", str(out), "--core", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    after = os.times()
    print("\n".join(line for line in done.stdout.splitlines() if line.startswith("rows: ")))
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(after.children_user + after.children_system - cpu.children_user - cpu.children_system, 1),
        "peak_mib": round(int(done.stdout.split()[-1]) / 1024),
        "prepared_mib": round(sum(path.stat().st_size for path in (out / "log").iterdir()) / 2**20),
    }


def main() -> None:
    """Write a log, prepare it, print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare", description=main.__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--ending", choices=sorted(_WRITERS), default="parquet")
    parser.add_argument("--folder", type=Path, help="where files are written meanwhile (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        size = write_log(Path(scratch) / "log", options.rows, options.ending)
        found = measure(Path(scratch) / "log", Path(scratch) / "data")
    print(json.dumps({"rows": options.rows, "ending": options.ending, "log_mib": round(size / 2**20), **found}))


if __name__ == "__main__":
    main()
