"""Freed memory between blocks that are still in use goes back to the system."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from service.inference.free_memory import give_back

BLOCK = 100_000  # bytes: below the size from which glibc maps a block by itself
COUNT = 400


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by their own rules")
def test_freed_memory_is_given_back() -> None:
    blocks = [b"x" * BLOCK for _ in range(COUNT)]
    last = b"x" * BLOCK  # in use, above the others: glibc does not shrink the heap below it
    del blocks
    before = resident_bytes()
    give_back()
    assert before - resident_bytes() > BLOCK * COUNT // 2
    assert last
