"""A process of the service starts no threads for matrices: each would spin beside the rankings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_CORES = len(os.sched_getaffinity(0))
_COUNT = "import os, {}, numpy; print(len(os.listdir('/proc/self/task')))"


def threads(module: str, **variables: str) -> int:
    """Return the threads of a new process that has imported a module and numpy."""
    others = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", _COUNT.format(module)]
    done = subprocess.run(command, cwd=ROOT, env=others | variables, check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_the_service_has_one_thread_after_its_import_of_numpy() -> None:
    assert threads("service") == 1
    assert threads("json") > 1 or _CORES == 1  # else this would test nothing


def test_a_number_that_an_operator_sets_is_kept() -> None:
    assert threads("service", OPENBLAS_NUM_THREADS="2") == min(2, _CORES)
