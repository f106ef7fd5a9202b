"""Writes the test files' compiled code once, before the processes of pytest-xdist start.

Each process would compile all of them in its first run, with pytest's way of showing what an assert compares: seven
seconds of processor time in each of three. Later runs find the files.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _pytest.assertion import rewrite
from _pytest.assertion.rewrite import assertstate_key

PROCESSES = 2
FEW = 40
"""So many new or renamed files are left to those who read them."""


def rewrite_tests(config: pytest.Config, folder: Path) -> None:
    """Write what is missing; the processes that read it check that it is as its source."""
    missing = [source for source in sorted(folder.rglob("test_*.py")) if not _compiled(source).exists()]
    if len(missing) > FEW:
        started = [_start(config, missing[place::PROCESSES]) for place in range(PROCESSES)]
        for process in started:
            os.waitpid(process, 0)


def _compiled(source: Path) -> Path:
    return rewrite.get_cache_dir(source) / (source.stem + rewrite.PYC_TAIL)


def _start(config: pytest.Config, sources: list[Path]) -> int:
    """Fork a process that writes some; return its id."""
    if process := os.fork():
        return process
    try:
        for source in sources:
            digest, code = rewrite._rewrite_test(source, config)
            rewrite.try_makedirs(_compiled(source).parent)
            rewrite._write_pyc(config.stash[assertstate_key], code, digest, _compiled(source))
    finally:
        os._exit(0)
