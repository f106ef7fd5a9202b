"""Closed loops by `wrk`: each connection sends the next request as soon as it is answered."""

from __future__ import annotations

import json
import resource
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contract.command_line import CommandError

# Requests are made before the first one is sent. With a sixth argument each request names a user of its own: the digits
# behind that prefix are replaced, so that a request's length stays.
_SCRIPT: Final = """
local requests, heads, tails, place, digits = {}, {}, {}, 0, 7
function init(args)
  local headers, prefix = {HEADERS}, args[4]
  for body in io.lines(args[1]) do
    local request = wrk.format("POST", args[3], headers, body)
    requests[#requests + 1] = request
    if prefix then
      local _, stop = request:find(prefix, 1, true)
      heads[#heads + 1], tails[#tails + 1] = request:sub(1, stop), request:sub(stop + digits + 1)
    end
  end
  place = tonumber(args[2])
  if prefix then request = new_user end
end
function request()
  place = place % #requests + 1
  return requests[place]
end
function new_user()
  place = place + 1
  local n = place % #heads + 1
  return heads[n] .. string.format("%07d", place) .. tails[n]
end
function done(summary, latency, requests)
  local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '\\nFIGURES {"requests": %d, "microseconds": %d, "refused": %d, "lost": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.duration, summary.errors.status, lost,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""
_GRACE_SECONDS: Final = 30
_MARK: Final = "FIGURES "


@dataclass(frozen=True, slots=True)
class Closed:
    """The result of a closed loop; answers other than 2xx count in `refused` and not in `requests`."""

    requests: int
    seconds: float
    refused: int
    lost: int
    p50_ms: float
    p99_ms: float
    client_cpu_seconds: float

    @property
    def rate(self) -> float:
        """Return good answers per second."""
        return self.requests / self.seconds


class Wrk:
    """`wrk` with a file of request bodies.

    Args:
        folder: for the script and the bodies; must outlive this.
        bodies: JSON without line ends, one request each; sent in their order in a cycle.
        headers: of every request, beside its content type.

    Raises:
        CommandError: this machine has no wrk.
    """

    def __init__(self, folder: Path, bodies: Sequence[bytes], headers: Mapping[str, str] = {}) -> None:
        self._program = shutil.which("wrk")
        if self._program is None:
            raise CommandError("no wrk on PATH; install it (apt-get install wrk, brew install wrk)")
        name = secrets.token_hex(4)
        self._script, self._bodies = folder / f"{name}.lua", folder / f"{name}.jsonl"
        lines = {"content-type": "application/json", **headers}
        table = ", ".join(f"[{json.dumps(key)}] = {json.dumps(value)}" for key, value in lines.items())
        self._script.write_text(_SCRIPT.replace("{HEADERS}", f"{{{table}}}"))
        self._bodies.write_bytes(b"\n".join(bodies) + b"\n")
        self._next = 0

    def run(self, url: str, connections: int, seconds: float, path: str = "/rank") -> Closed:
        """Send requests for some seconds.

        Raises:
            CommandError: wrk failed.
        """
        self._next += 997  # so that short runs do not ask for the same users again
        return self._run(url, connections, seconds, [str(self._next), path])

    def run_new_users(self, url: str, connections: int, seconds: float, prefix: str, first: int) -> Closed:
        """Ask for some seconds, each request for a user of its own: `prefix` and seven digits, from `first` on.

        Raises:
            CommandError: wrk failed.
        """
        return self._run(url, connections, seconds, [str(first), "/rank", prefix])

    def _run(self, url: str, connections: int, seconds: float, arguments: Sequence[str]) -> Closed:
        whole = max(1, round(seconds))
        command = [str(self._program), "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "10s"]
        command += ["-s", str(self._script), url, "--", str(self._bodies), *arguments]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, timeout=whole + _GRACE_SECONDS, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = next((line for line in done.stdout.splitlines() if line.startswith(_MARK)), None)
        if done.returncode or line is None:
            raise CommandError(f"wrk failed with status {done.returncode}", done.stdout + done.stderr)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return parse(line, cpu)


def parse(line: str, client_cpu_seconds: float = 0.0) -> Closed:
    """Read the line that the script prints at the end."""
    found = json.loads(line.removeprefix(_MARK))
    return Closed(
        requests=found["requests"] - found["refused"],
        seconds=found["microseconds"] / 1e6,
        refused=found["refused"],
        lost=found["lost"],
        p50_ms=found["p50"],
        p99_ms=found["p99"],
        client_cpu_seconds=client_cpu_seconds,
    )
