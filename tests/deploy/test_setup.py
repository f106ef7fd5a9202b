"""`make setup`: the right Python, a word about size, and a repaired environment; with an empty lock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The inputs of deploy/setup, with an empty lock."""
    for folder in ("deploy", "locks", "contract"):
        (tmp_path / folder).mkdir()
    for name in ("deploy/setup", "deploy/__init__.py", "deploy/local_redis.py", "contract/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "contract" / "command_line.py", tmp_path / "contract")
    (tmp_path / "locks" / "dev.txt").write_text("# none==0\n")
    return tmp_path


def setup(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "deploy/setup"], cwd=clone, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110, check=False,
    )  # fmt: skip


def _program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("case $1 in --version) echo Python 3.9.1;; *) exit 1;; esac", "is none of them (Python 3.9.1)"),
        ("echo 'pyenv: no such version' >&2; exit 127", "is none of them (pyenv: no such version)"),
    ],
)
def test_another_python_is_refused_with_a_sentence(clone: Path, program: str, words: str) -> None:
    python = _program(clone / "bin", "python3.9", program)
    ended = setup(clone, PYTHON=str(python))
    assert ended.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in ended.stdout
    assert words in ended.stdout
    assert ended.stdout.count("\n") == 1
    assert not (clone / ".venv").exists()


def test_a_python_that_is_not_there_is_refused_with_a_sentence(clone: Path) -> None:
    ended = setup(clone, PYTHON="python9.9")
    assert ended.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed, and python9.9" in ended.stdout


def test_without_any_python_that_suits_the_newcomer_is_told_what_to_install(clone: Path) -> None:
    for name in ("python3.11", "python3.12", "python3.13", "python3"):
        _program(clone / "bin", name, "exit 1")
    ended = setup(clone, PATH=f"{clone / 'bin'}:{os.environ['PATH']}", PYTHON="")
    assert ended.returncode == 1
    assert "none is on PATH; install one, or name it" in ended.stdout


@pytest.mark.slow
def test_setup_says_how_much_it_installs_and_mends_what_was_interrupted(clone: Path) -> None:
    ended = setup(clone, PYTHON=sys.executable)
    assert ended.returncode == 0, ended.stdout
    assert "about 2 GB" in ended.stdout
    mark, junk = clone / ".venv" / ".locked", clone / ".venv" / "lib" / "half"
    junk.write_text("x")
    assert mark.exists()
    assert setup(clone, PYTHON=sys.executable).returncode == 0
    assert junk.exists()  # complete before: only the lock is installed again
    mark.unlink()  # as where an installation was interrupted
    ended = setup(clone, PYTHON=sys.executable)
    assert ended.returncode == 0
    assert "made anew" in ended.stdout
    assert not junk.exists()
    (clone / ".venv" / "bin" / "python").unlink()  # as where that Python was removed from the machine
    assert setup(clone, PYTHON=sys.executable).returncode == 0
    assert (clone / ".venv" / "bin" / "python").exists()


@pytest.mark.slow
def test_an_installation_that_fails_leaves_no_mark(clone: Path) -> None:
    (clone / "locks" / "dev.txt").write_text("./no-such-package\n")
    ended = setup(clone, PYTHON=sys.executable)
    assert ended.returncode == 1
    assert "run make setup again" in ended.stdout
    assert not (clone / ".venv" / ".locked").exists()
