"""Processes as Linux shows them."""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the children that the main thread of a process has; none if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_fork_server(pid: int) -> bool:
    """Return whether a process is one of service/inference/fork_server.py, and no proof."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "ranker-proofs"
    except OSError:
        return False


def is_alive(pid: int) -> bool:
    """Return whether a process runs: one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def open_files(pid: int) -> dict[int, str]:
    """Return what the descriptors of a process refer to."""
    return {int(one.name): str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()}
