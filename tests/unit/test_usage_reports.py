"""No process of this project reports its use to the makers of a library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
_SILENT_ON: Final = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME")
_OURS: Final = ("ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED")


def packages_that_import(library: str) -> set[str]:
    """Return the top packages with a file that imports a library at its start; tests are none."""
    line = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    files = (path for package in ROOT.glob("*/__init__.py") for path in package.parent.rglob("*.py"))
    found = {path.relative_to(ROOT).parts[0] for path in files if line.search(path.read_text(encoding="utf-8"))}
    return found - {"tests"}


def run(code: str, home: Path, **variables: str) -> str:
    """Return what a new process prints; its home directory is empty, and no variable shows that this is a test."""
    left_out = (*_SILENT_ON, *_OURS)
    plain = {name: value for name, value in os.environ.items() if name not in left_out}
    environment = plain | {"HOME": str(home)} | variables
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize("package", sorted(packages_that_import("onnxruntime")))
def test_onnx_runtime_writes_nothing_and_starts_no_thread(package: str, tmp_path: Path) -> None:
    code = f"import {package}, onnxruntime, os; print(len(os.listdir('/proc/self/task')))"
    assert run(code, tmp_path, OPENBLAS_NUM_THREADS="1") == "1\n"
    assert list(tmp_path.iterdir()) == []


def test_an_operator_may_allow_reports(tmp_path: Path) -> None:
    """And without the variable it writes: else the test above would test nothing."""
    assert run("import service, onnxruntime", tmp_path, ORT_DISABLE_TELEMETRY="0") == ""
    assert list(tmp_path.rglob("*.db"))


def test_every_report_that_is_known_is_off(tmp_path: Path) -> None:
    code = "import contract.tracking as t, os; t.set_habits(); print([os.environ[name] for name in %r])"
    assert run(code % (_OURS,), tmp_path) == "['1', 'true', '0']\n"


def test_ray_is_told_before_it_is_imported(tmp_path: Path) -> None:
    code = "import deploy.scoring.workers, os, sys; print(os.environ['RAY_USAGE_STATS_ENABLED'], 'ray' in sys.modules)"
    assert run(code, tmp_path) == "0 False\n"
