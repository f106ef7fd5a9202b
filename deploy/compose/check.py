"""Checks the running containers from outside; called by deploy/compose-test, standard library only."""

from __future__ import annotations

import argparse
import http.client
import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

ARMS = {"control": "mgnm", "treatment": "pyramid_mixer"}
CANDIDATES = [str(item) for item in range(1, 201)]
PATIENCE_SECONDS = 60
INSIDE = """
import pathlib
try:
    pathlib.Path("/app/written").touch()
except OSError:
    pass
else:
    raise SystemExit("the root is writable")
status = pathlib.Path("/proc/1/status").read_text()
assert "CapEff:\\t0000000000000000" in status and "NoNewPrivs:\\t1" in status, status
"""


COUNT = """
import duckdb, pathlib, sys
from analysis.tables.reading import rows
counted = rows(duckdb.connect(), pathlib.Path("/srv/parquet"), sys.argv[1]).aggregate("count(*)")
print(counted.fetchall()[0][0])
"""


class FailedError(Exception):
    """A check failed."""


def main() -> None:
    """Check the stack that the command line names."""
    parser = argparse.ArgumentParser(prog="python deploy/compose/check.py", description=__doc__)
    parser.add_argument("--url", required=True, help="published address of the service")
    parser.add_argument("--prometheus", required=True, help="published address of Prometheus")
    parser.add_argument("--container", required=True, help="container of the service")
    parser.add_argument("--redis", required=True, help="container of the behaviours' Redis")
    parser.add_argument("--events", required=True, help="container of the streams' Redis")
    parser.add_argument("--sink", required=True, help="container of the sink")
    chosen = parser.parse_args()
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))  # all is on this host
    check_rankings(chosen.url)
    check_hardening(chosen.container)
    check_hardening(chosen.sink)
    check_sink(chosen.url, chosen.sink, chosen.events)
    check_access(chosen.redis)
    check_access(chosen.events)
    check_prometheus(chosen.prometheus, chosen.url)
    check_drain(chosen.url, chosen.container)


def check_rankings(url: str) -> None:
    """Rank for users until both arms have answered, each with its own model, from behaviours in Redis."""
    seen: dict[str, str] = {}
    for user in range(1, 60):
        status, headers, body = _rank(url, str(user))
        _require(status == 200, f"status {status}: {body}")
        bucket = headers["X-AB-Bucket"]
        arm = re.match(r"rank=pyramid-vs-mgnm(?:-\d+)?:(control|treatment)[;,]", bucket + ";")
        _require(arm is not None, f"X-AB-Bucket: {bucket}")
        name = arm.group(1) if arm else ""
        scores = [item["score"] for item in body["items"] if item["score"] is not None]
        _require(body["degraded"] == [], f"degraded: {body['degraded']}")
        _require(len(body["items"]) == len(CANDIDATES), f"{len(body['items'])} items")
        _require(len(scores) > 100 and scores == sorted(scores, reverse=True), "scores are missing or out of order")
        _require(body["model"] == ARMS[name], f"{name} was answered by {body['model']}")
        if name not in seen:
            print(f"user {user}: X-AB-Bucket: {bucket}; X-Model: {headers['X-Model']}; {headers['Server-Timing']}")
        seen[name] = bucket
        if seen.keys() == ARMS.keys() and user >= 20:
            return
    raise FailedError(f"only {sorted(seen)} of the arms answered")


def check_hardening(container: str) -> None:
    """The running container cannot write to its own root, and has no capability."""
    subprocess.run(["docker", "exec", container, "python", "-c", INSIDE], check=True)
    print("the container's root is read-only; no capabilities, no new privileges")


def check_sink(url: str, sink: str, events: str) -> None:
    """Exposures, feedback and rankings arrive in Parquet, and leave the streams; its user may do nothing else."""
    _post(url, "/feedback", {"feedback": [{"user_id": str(user), "type": "foreground"} for user in range(20)]})
    _until(lambda: _rows(sink, "exposures") >= 20, "an exposure of each of 20 users in Parquet")
    _until(lambda: _rows(sink, "activity") >= 20, "feedback of 20 users in Parquet")
    _until(lambda: _rows(sink, "rankings") >= 20, "a ranking of each of 20 users in Parquet")
    streams = ("ab:exposure:v1", "fb:activity:v1", "rank:log:v1")
    _until(lambda: all(_redis(events, "XLEN", stream) == "0" for stream in streams), "the streams are empty again")
    for command in (("XADD", streams[0], "*", "a", "b"), ("DEL", streams[0]), ("XREAD", "STREAMS", "ab:state:x", "0")):
        refused = _redis(events, "--user", "sink", "--pass", "any", "--no-auth-warning", *command)
        _require(refused.startswith("NOPERM"), f"the sink's user may {' '.join(command)}")
    print(f"Parquet: {_rows(sink, 'exposures')} exposures, {_rows(sink, 'activity')} events of activity; streams empty")


def _rows(sink: str, table: str) -> int:
    done = subprocess.run(
        ["docker", "exec", sink, "python", "-c", COUNT, table], capture_output=True, text=True, check=False
    )
    return int(done.stdout or 0)


def check_access(redis: str) -> None:
    """The access list of a Redis refuses commands that the service does not use."""
    for command in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("SET", "other", "1"), ("XLEN", "other")):
        _require(_redis(redis, *command).startswith("NOPERM"), f"Redis allows {' '.join(command)}")
    print("Redis: FLUSHALL, CONFIG, KEYS and foreign keys are refused")


def _redis(container: str, *command: str) -> str:
    done = subprocess.run(
        ["docker", "exec", container, "redis-cli", *command], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def check_prometheus(url: str, service: str) -> None:
    """The target is up, its requests are counted and their rate recorded, and no rule fails."""
    for job in ("ranker", "ranker-sink"):
        _until(lambda job=job: _value(url, f'up{{job="{job}"}}') == 1, f"{job} is up in Prometheus")  # type: ignore[misc]
    counted = 'sum (ranker_requests_total{route="/rank",status="200"})'
    _until(lambda: (_value(url, counted) or 0) >= 20, f"{counted} is at least 20")
    recorded = 'route:ranker_errors:ratio5m{route="/rank"}'

    def has_recorded() -> bool:
        _rank(service, "1")  # a rate needs requests between two scrapes
        return _value(url, recorded) == 0

    _until(has_recorded, f"{recorded} is 0")
    groups = _get(url, "/api/v1/rules")["data"]["groups"]
    ill = {rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if rule["health"] == "err"}
    _require(not ill, f"rules fail: {ill}")
    rules = sum(len(group["rules"]) for group in groups)
    print(f"Prometheus: target up, {_value(url, counted):.0f} rankings counted, {rules} rules without complaint")


def check_drain(url: str, container: str) -> None:
    """A request that is half sent when SIGTERM arrives is answered, and then the process exits with status 0."""
    address = urllib.parse.urlsplit(url)
    body = json.dumps({"user_id": "1", "candidates": CANDIDATES}).encode()
    head = (
        f"POST /rank HTTP/1.1\r\nHost: ranker\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 80), timeout=30) as connection:
        connection.sendall(head.encode() + body[:100])
        _until(lambda: _ready(url) == 200, "ready before the signal")
        stopping = subprocess.Popen(["docker", "stop", "--time", "30", container], stdout=subprocess.DEVNULL)
        _until(lambda: _ready(url) != 200, "not ready after the signal")
        connection.sendall(body[100:])
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        items = json.loads(answer.read())["items"]
    _require(answer.status == 200 and len(items) == len(CANDIDATES), f"answered {answer.status} while draining")
    _require(stopping.wait(60) == 0, "docker stop failed")
    ended = subprocess.run(
        ["docker", "inspect", "-f", "{{.State.ExitCode}}", container], capture_output=True, text=True, check=True
    )
    _require(ended.stdout.strip() == "0", f"exit status {ended.stdout.strip()}")
    print("SIGTERM: the request in flight was answered, then exit 0")


def _rank(url: str, user: str) -> tuple[int, Any, Any]:
    return _post(url, "/rank", {"user_id": user, "candidates": CANDIDATES})


def _post(url: str, path: str, document: dict[str, Any]) -> tuple[int, Any, Any]:
    body = json.dumps(document).encode()
    request = urllib.request.Request(f"{url}{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def _ready(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _get(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}{path}", timeout=10) as answer:
        return json.load(answer)


def _value(url: str, expression: str) -> float | None:
    try:
        result = _get(url, f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")["data"]["result"]
    except OSError:
        return None  # not up yet
    return float(result[0]["value"][1]) if result else None


def _until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise FailedError(f"never so within {PATIENCE_SECONDS} s: {what}")
        time.sleep(0.2)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise FailedError(what)


if __name__ == "__main__":
    main()
