"""`prepare` keeps numbers and references of an own file in memory, not text."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.news_log_files import write_columns

ROWS = 1_000_000
MOST_MIB = 300
# The child reports its own peak (KiB): the figure that a parent gets includes the parent's memory at the fork.
PEAK_OF = """
from training.__main__ import main
status = main()
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).removeprefix("VmHWM:"))
raise SystemExit(status)
"""
LIMITED = """
from training.data import keep_large
from training.data.files import own
own.IN_MEMORY, keep_large.MEMORY = 100_000, "150MB"
"""
ROOT = Path(__file__).resolve().parents[4]


FORMATS = ("clicks.csv", "clicks.tsv", "clicks.jsonl", "clicks.parquet")


def _log(path: Path) -> None:
    rng = random.Random(1)
    rows = {"user": [], "item": [], "timestamp": [], "action": ["click"] * ROWS, "value": [None] * ROWS, "play_ms": []}
    for _ in range(ROWS):
        rows["user"].append(f"user-{rng.randrange(ROWS // 20)}")
        rows["item"].append(f"item-{rng.randrange(50_000)}")
        rows["timestamp"].append(1_600_000_000 + rng.randrange(100_000_000))
        rows["play_ms"].append(rng.randrange(100_000))
    write_columns(rows, path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FORMATS)
def test_a_million_rows_of_an_own_file_peak_below_300_mib(tmp_path: Path, name: str) -> None:
    _log(tmp_path / name)
    command = [sys.executable, "-c", PEAK_OF, "prepare", str(tmp_path / name), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"rows: {ROWS:,} read" in done.stdout
    assert int(done.stdout.split()[-2]) <= MOST_MIB * 1024


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_log_that_goes_through_a_file_takes_no_more_memory_for_more_rows(tmp_path: Path) -> None:
    """Three million rows of as many users and items as one million peak less than 100 MiB higher."""
    peaks = []
    for million in (1, 3):
        folder = tmp_path / f"log{million}"
        folder.mkdir()
        for part in range(million):
            rng = np.random.default_rng(part)
            rows = {
                "user": [f"u{user}" for user in rng.integers(50_000, size=ROWS)],
                "item": [f"i{item}" for item in rng.integers(50_000, size=ROWS)],
                "ts": (1_700_000_000_000 + part * ROWS + np.arange(ROWS)).tolist(),
            }
            write_columns(rows, folder / f"{part}.parquet")
        command = [sys.executable, "-c", LIMITED + PEAK_OF, "prepare", str(folder)]
        done = subprocess.run(
            [*command, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout.split()[-2]))
    assert peaks[1] - peaks[0] < 100 * 1024
