"""How many processors this process may really use: a container's quota, not the host's cores.

ONNX Runtime sizes its thread pool by the host. In a container with a quota of two on a host of 64 cores, 62 threads
would then wait for the next scheduling period, which shows as latency in steps of 100 ms.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def available_cpus(root: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the processors this process may use, at least 1: the smaller of its affinity and its cgroup's quota.

    Args:
        root: where control groups are mounted, of version 2 or 1.
        membership: the list of this process's groups, as in /proc/self/cgroup.
    """
    allowed = len(os.sched_getaffinity(0))
    quotas = [quota for group in _groups(root, membership) for quota in (_version_2(group), _version_1(group)) if quota]
    return max(1, min([allowed, *(math.ceil(quota) for quota in quotas)]))


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    """Yield this process's group and all above it: the smallest quota on the way up is the one that binds.

    Inside a container the path of the group is often that of the host, which is not mounted; its root then is.
    """
    for line in _text(membership).splitlines():
        _, _, place = line.partition(":")
        controllers, _, path = place.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (root, root / "unified", root / controllers) if controllers else (root, root / "unified"):
            group = mount / path.strip("/")
            yield from (above for above in (group, *group.parents) if above.is_relative_to(mount))
    yield from (root, root / "cpu", root / "cpu,cpuacct")


def _version_2(group: Path) -> float | None:
    quota, _, period = _text(group / "cpu.max").strip().partition(" ")
    return _ratio(quota, period)


def _version_1(group: Path) -> float | None:
    return _ratio(_text(group / "cpu.cfs_quota_us").strip(), _text(group / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    """Return quota over period, or None where there is none (`max`, -1, no file)."""
    if not quota.isdigit() or not period.isdigit() or int(quota) == 0 or int(period) == 0:
        return None
    return int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
