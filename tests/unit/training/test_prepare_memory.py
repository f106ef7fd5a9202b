"""What `prepare` holds of an own file: numbers and references, not text."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 1_000_000
MOST_MIB = 300
ROOT = Path(__file__).resolve().parents[3]


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
    command = [
        sys.executable,
        "-m",
        "training",
        "prepare",
        str(tmp_path / "clicks.csv"),
        "--out",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)  # the peak of this child, and of no other one
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert f"rows: {ROWS:,} read" in output
    assert usage.ru_maxrss <= MOST_MIB * 1024  # KiB, on Linux
