"""Rows whose fault is injected by existing tests: pytest runs those tests, and each row gets its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.faults.row import Outcome, Row

ROOT: Final = Path(__file__).resolve().parents[2]
_MARKS: Final = "not gpu and not browser and not compose"


def run_tests(rows: Sequence[Row]) -> Iterator[Outcome]:
    """Run the tests of all rows once, and yield the outcome of each row."""
    wanted = sorted({f"tests/{test}" for row in rows for test in row.tests})
    with tempfile.TemporaryDirectory(prefix="ranker-faults-") as folder:
        found = Path(folder) / "found.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", _MARKS, f"--junitxml={found}", *wanted]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        results = _results(found) if found.exists() else {}
    for row in rows:
        outcome = Outcome(row, 1)
        for test in row.tests:
            cases = results.get(test, [])
            outcome.tests_run += len(cases)
            outcome.seconds += sum(seconds for seconds, _ in cases)
            outcome.problems += [f"{test}: {problem}" for _, problem in cases if problem]
            if not cases:
                outcome.problems.append(f"{test} did not run: {done.stdout[-500:]}")
        yield outcome


def _results(path: Path) -> dict[str, list[tuple[float, str]]]:
    """Return the cases of each test: seconds, and the problem if it did not pass."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for case in ElementTree.parse(path).iter("testcase"):
        module = case.get("classname", "").removeprefix("tests.").replace(".", "/")
        bad = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "")
        found[f"{module}.py::{case.get('name', '').partition('[')[0]}"].append((float(case.get("time", 0)), bad))
    return found
