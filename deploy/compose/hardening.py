"""The limits of the running containers: as Docker reports them, and as programs inside find them.

Standard library only. Called by deploy/compose/check.py; docs/security.md lists the checks.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, Final

Facts = Mapping[str, Any]  # of one container, as `docker inspect` prints them

OURS: Final = ("redis", "events", "rank-1", "rank-2", "proxy", "sink", "guard", "page")
INTERNAL: Final = ("redis", "events", "rank-1", "rank-2", "sink", "guard")
WITH_PYTHON: Final = ("rank-1", "rank-2", "proxy", "sink", "guard", "page")
_OF_NETWORKS, _OF_SERVICE = 2, 4  # checks below: networks and ports; bundles, secrets, time to drain, variables
_GRACE_SECONDS: Final = 20  # the service's drain: its delay, its longest deadline, the flush of events

TRIES: Final = """
import os, pathlib, shutil, socket, sys
def refused(action, *errors):
    try:
        action()
    except errors or OSError:
        return True
    return False
def execute():
    path = pathlib.Path("/tmp/program")
    path.write_text("#!/bin/true\\n")
    path.chmod(0o700)
    if os.spawnv(os.P_WAIT, str(path), [str(path)]) != 0:
        raise PermissionError
status = pathlib.Path("/proc/self/status").read_text()
found = {
    "write to the root": refused(lambda: pathlib.Path("/written").touch()),
    "write to the program": refused(lambda: pathlib.Path("/usr/written").touch()),
    "open a raw socket": refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
    "become root": os.getuid() != 0 and refused(lambda: os.setuid(0)),
    "run a program from /tmp": refused(execute),
    "have a capability": "CapEff:\\t0000000000000000" in status and "CapBnd:\\t0000000000000000" in status,
    "gain privileges": "NoNewPrivs:\\t1" in status,
    "call the kernel unfiltered": "Seccomp:\\t2" in status,
    "find a compiler, pip or curl": not any(map(shutil.which, ("cc", "gcc", "make", "pip", "pip3", "curl", "wget"))),
}
print(*(name for name, is_refused in found.items() if not is_refused), sep="; ")
"""
"""Prints what this process could do and should not."""


class NotHardenedError(Exception):
    """A container can do more than it should."""


def check_containers(containers: Mapping[str, str]) -> int:
    """Check every container; returns the number of checks.

    Args:
        containers: id of each running service's container.

    Raises:
        NotHardenedError: one of them can do more than it should.
    """
    facts = {name: json.loads(_docker("inspect", one))[0] for name, one in containers.items()}
    problems = [
        f"{name}: not: {rule}" for name, one in facts.items() for rule, is_met in _CHECKS.items() if not is_met(one)
    ]
    problems += [
        f"{name}: not: {rule}" for name in OURS for rule, is_met in _OF_OURS.items() if not is_met(facts[name])
    ]
    problems += [f"{name}: {problem}" for name in INTERNAL if (problem := _outside(facts[name]))]
    problems += [f"{name}: {one}" for name in ("rank-1", "rank-2", "page") if (one := _service(facts[name]))]
    tried = {name: _docker("exec", containers[name], "python3", "-c", TRIES).split("; ") for name in WITH_PYTHON}
    problems += [f"{name}: can {said.strip()}" for name, all_said in tried.items() for said in all_said if said.strip()]
    if problems:
        raise NotHardenedError("; ".join(problems))
    return len(_CHECKS) + len(_OF_OURS) + _OF_NETWORKS + _OF_SERVICE + TRIES.count('    "')


def check_teeth(image: str) -> None:
    """The tries find what a container without limits can do.

    Raises:
        NotHardenedError: they find nothing, so they would find nothing anywhere.
    """
    said = _docker("run", "--rm", "--user", "0:0", "--entrypoint", "python", image, "-c", TRIES)
    for expected in ("write to the root", "open a raw socket", "become root", "have a capability"):
        if expected not in said:
            raise NotHardenedError(f"a container without limits seems not to {expected}: {said}")


def _outside(facts: Facts) -> str:
    """Return how a container reaches or is reached from outside the internal networks; empty if it is not."""
    networks = facts["NetworkSettings"]["Networks"]
    open_ones = [name for name in networks if not json.loads(_docker("network", "inspect", name))[0]["Internal"]]
    published = {port: to for port, to in facts["NetworkSettings"]["Ports"].items() if to}
    return f"networks {open_ones}, ports {published}" if open_ones or published else ""


def _service(facts: Facts) -> str:
    mounts = {mount["Destination"]: mount["RW"] for mount in facts["Mounts"]}
    if mounts.get("/srv/releases", True):
        return "it can write bundles"
    if mounts.get("/run/secrets", True):
        return "it can write secrets"
    if (facts["Config"].get("StopTimeout") or 0) <= _GRACE_SECONDS:
        return "it is killed before its drain ends"
    secrets = [one for one in facts["Config"]["Env"] if re.search(r"(URL|SECRET|KEY)=\S*(:.+@|\w{32})", one)]
    return "a secret is in its variables" if secrets else ""


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


_CHECKS: Final[Mapping[str, Callable[[Facts], bool]]] = {
    "runs as a number that is not root": lambda f: re.fullmatch(r"[1-9]\d*(:\d+)?", f["Config"]["User"]) is not None,
    "has a read-only root": lambda f: f["HostConfig"]["ReadonlyRootfs"],
    "has no capability": lambda f: f["HostConfig"]["CapDrop"] == ["ALL"] and not f["HostConfig"]["CapAdd"],
    "gains no privileges": lambda f: "no-new-privileges:true" in f["HostConfig"]["SecurityOpt"],
    "keeps the seccomp filter": lambda f: not any("seccomp" in one for one in f["HostConfig"]["SecurityOpt"]),
    "has a limit of processes": lambda f: 0 < f["HostConfig"]["PidsLimit"] <= 256,
    "has a limit of memory": lambda f: f["HostConfig"]["Memory"] > 0,
    "has a limit of processors": lambda f: f["HostConfig"]["NanoCpus"] > 0,
    "is not privileged": lambda f: not f["HostConfig"]["Privileged"] and not f["HostConfig"]["Devices"],
    "has namespaces of its own": lambda f: "host" not in (
        f["HostConfig"]["NetworkMode"], f["HostConfig"]["PidMode"], f["HostConfig"]["IpcMode"]
    ),
    "does not see Docker": lambda f: not any("docker.sock" in mount["Source"] for mount in f["Mounts"]),
    "has a small /tmp that runs nothing": lambda f: all(
        {"noexec", "nosuid", "nodev"} <= set(options.split(",")) and "size=" in options
        for options in (f["HostConfig"]["Tmpfs"] or {"": ""}).values()
    ),
}  # fmt: skip
"""For every container, also those of other projects."""

_OF_OURS: Final[Mapping[str, Callable[[Facts], bool]]] = {
    "starts without a shell": lambda f: f["Config"]["Entrypoint"][0] not in ("sh", "/bin/sh", "bash"),
    "checks its health without a shell": lambda f: f["Config"]["Healthcheck"]["Test"][0] == "CMD",
    "is healthy": lambda f: f["State"]["Health"]["Status"] == "healthy",
}
