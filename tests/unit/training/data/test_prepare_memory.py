"""`prepare` keeps numbers and references of an own file in memory, not text."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 1_000_000
MOST_MIB = 300
# The child reports its own peak (KiB): the figure that a parent gets includes the parent's memory at the fork.
PEAK_OF = """
from training.__main__ import main
status = main()
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).removeprefix("VmHWM:"))
raise SystemExit(status)
"""
ROOT = Path(__file__).resolve().parents[4]


def _log(path: Path) -> None:
    rng = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        file.write("user,item,timestamp,action,value,play_ms\n")
        for _ in range(ROWS):
            user, item = rng.randrange(ROWS // 20), rng.randrange(50_000)
            second = 1_600_000_000 + rng.randrange(100_000_000)
            file.write(f"user-{user},item-{item},{second},click,,{rng.randrange(100_000)}\n")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_rows_of_an_own_file_peak_below_300_mib(tmp_path: Path) -> None:
    _log(tmp_path / "clicks.csv")
    command = [sys.executable, "-c", PEAK_OF, "prepare", str(tmp_path / "clicks.csv"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"rows: {ROWS:,} read" in done.stdout
    assert int(done.stdout.split()[-2]) <= MOST_MIB * 1024
