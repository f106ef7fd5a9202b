"""Thread counts follow the container's quota, not the host's cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.inference.cpus import available_cpus


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def cpus(root: Path, membership: str = "") -> int:
    write(root / "membership", membership)
    return available_cpus(root, root / "membership")


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert cpus(tmp_path / "nothing") == 64
    write(tmp_path / "cpu.max", "max 100000\n")
    assert cpus(tmp_path) == 64


@pytest.mark.parametrize(("quota", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_quota_of_version_2_counts(tmp_path: Path, quota: str, expected: int) -> None:
    write(tmp_path / "cpu.max", quota + "\n")
    assert cpus(tmp_path, "0::/") == expected


def test_the_smallest_quota_on_the_way_up_binds(tmp_path: Path) -> None:
    write(tmp_path / "pods" / "cpu.max", "300000 100000\n")
    write(tmp_path / "pods" / "one" / "cpu.max", "max 100000\n")
    assert cpus(tmp_path, "0::/pods/one\n") == 3


def test_a_quota_of_version_1_counts_and_minus_one_is_none(tmp_path: Path) -> None:
    write(tmp_path / "cpu" / "cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert cpus(tmp_path, "1:cpu:/\n") == 64
    write(tmp_path / "cpu" / "docker" / "cpu.cfs_quota_us", "400000\n")
    write(tmp_path / "cpu" / "docker" / "cpu.cfs_period_us", "100000\n")
    assert cpus(tmp_path, "3:memory:/elsewhere\n1:cpu:/docker\n") == 4


def test_a_group_path_of_the_host_falls_back_to_the_mounted_root(tmp_path: Path) -> None:
    write(tmp_path / "cpu.max", "200000 100000\n")
    assert cpus(tmp_path, "0::/../../kubepods/pod1\n") == 2


def test_unreadable_files_are_no_quota(tmp_path: Path) -> None:
    write(tmp_path / "cpu.max", "ÿ?")
    assert cpus(tmp_path, "garbage\n::\n0::") == 64


def test_there_is_always_one(tmp_path: Path) -> None:
    write(tmp_path / "cpu.max", "1000 100000\n")
    assert cpus(tmp_path) == 1
