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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy.compose.hardening import check_containers, check_teeth
from deploy.compose.replicas import check_replicas

ARMS = {"control": "mgnm", "treatment": "pyramid_mixer"}
CANDIDATES = [str(item) for item in range(1, 201)]
PATIENCE_SECONDS = 60
COUNT = """
import duckdb, pathlib, sys
from analysis.tables.reading import rows
counted = rows(duckdb.connect(), pathlib.Path("/srv/parquet"), sys.argv[1]).aggregate("count(*)")
print(counted.fetchall()[0][0])
"""


METRICS = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 8001, timeout=5)
connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {sys.argv[1]}"} if sys.argv[1] else {})
print(connection.getresponse().status)
"""


class FailedError(Exception):
    """A check failed."""


def main() -> None:
    """Check the stack that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m deploy.compose.check", description=__doc__)
    parser.add_argument("--url", required=True, help="published address of the proxy")
    parser.add_argument("--page", required=True, help="published address of the replica for people")
    parser.add_argument("--prometheus", required=True, help="published address of Prometheus")
    parser.add_argument("--alertmanager", required=True, help="published address of Alertmanager")
    parser.add_argument("--container", action="append", default=[], metavar="SERVICE=ID", help="a running container")
    parser.add_argument("--key-file", required=True, help="file with the key of the caller feed")
    chosen = parser.parse_args()
    key = Path(chosen.key_file).read_text(encoding="ascii").strip()
    containers = dict(one.split("=", 1) for one in chosen.container)
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))  # all is on this host
    check_rankings(chosen.url, key)
    check_keys(chosen.url, key, chosen.page, containers)
    check_ports(chosen.url, chosen.page)
    print(f"hardening: {check_containers(containers)} checks of {len(containers)} containers")
    check_teeth("ranker-serve-cpu")
    check_users(containers)
    check_sink(chosen.url, key, containers["sink"], containers["events"])
    check_prometheus(chosen.prometheus, chosen.url, key)
    check_alertmanager(chosen.prometheus, chosen.alertmanager)
    check_drain(chosen.page, containers["page"])
    check_replicas(chosen.url, key, containers)


def check_rankings(url: str, key: str) -> None:
    """Rank for users until both arms have answered, each with its own model, from behaviours in Redis."""
    seen: dict[str, str] = {}
    for user in range(1, 60):
        status, headers, body = _rank(url, str(user), key)
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


def check_keys(url: str, key: str, page: str, containers: Mapping[str, str]) -> None:
    """Callers and operators without a key get 401; a key is good for its scopes only; the demo's page warns."""
    for path in ("/rank", "/rank/batch", "/behaviours", "/feedback", "/items", "/v1/rank"):
        for wrong in ("", f"{key[:-1]}{'A' if key[-1] != 'A' else 'B'}", "rk_"):
            status, headers, _ = _post(url, path, {}, wrong)
            _require(status == 401 and headers["WWW-Authenticate"], f"{path} with a wrong key: {status}")
    _, headers, _ = _rank(url, "1", key)
    _require("RateLimit" in headers and "RateLimit-Policy" in headers, "the caller is not told its quota")
    asked = {"": "401", key: "403"}
    for replica in ("rank-1", "rank-2"):
        found = {one: _docker("exec", containers[replica], "python", "-c", METRICS, one) for one in asked}
        _require(found == asked, f"the port of operators of {replica} answers {list(found.values())}, not 401 and 403")
        access = _secret(containers[replica], "access.yaml")
        _require(key not in access and "KEYS_OF" not in access, "the access file has more or less than hashes")
        _require("ACCESS__" not in _docker("logs", containers[replica]), f"{replica} warns of its keys")
    _require(_rank(page, "1")[0] == 200, "the demo's page needs a key")
    _require("RANKER_ACCESS__FILE: not set" in _docker("logs", containers["page"]), "the page does not warn")
    print("keys: 401 without, 403 beyond the scopes, on both ports; the open page warns in its log")


def check_ports(url: str, page: str) -> None:
    """The proxy shows callers nothing of the operators, and the page is only on its own port."""
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/info", "/page/users", "/behaviours/1"):
        _require(_status(url, path) == 404, f"the proxy answers {path} with {_status(url, path)}")
    for path in ("/", "/docs", "/health/ready"):
        _require(_status(page, path) == 200, f"the replica for people answers {path} with {_status(page, path)}")
    print("the proxy answers 404 to everything but the routes of callers; the page and /docs are on their own port")


def check_sink(url: str, key: str, sink: str, events: str) -> None:
    """Exposures, feedback and rankings arrive in Parquet, and leave the streams; its user may do nothing else."""
    _post(url, "/feedback", {"feedback": [{"user_id": str(user), "type": "foreground"} for user in range(20)]}, key)
    _until(lambda: _rows(sink, "exposures") >= 20, "an exposure of each of 20 users in Parquet")
    _until(lambda: _rows(sink, "activity") >= 20, "feedback of 20 users in Parquet")
    _until(lambda: _rows(sink, "rankings") >= 20, "a ranking of each of 20 users in Parquet")
    streams = ("ab:exposure:v1", "fb:activity:v1", "rank:log:v1")
    _until(
        lambda: all(_docker("exec", events, "look", "XLEN", stream) == "0" for stream in streams),
        "the streams are empty again",
    )
    print(f"Parquet: {_rows(sink, 'exposures')} exposures, {_rows(sink, 'activity')} events of activity; streams empty")


def _rows(sink: str, table: str) -> int:
    done = subprocess.run(
        ["docker", "exec", sink, "python", "-c", COUNT, table], capture_output=True, text=True, check=False
    )
    return int(done.stdout or 0)


def check_users(containers: Mapping[str, str]) -> None:
    """Redis refuses who has no password, and commands and keys that a user does not need."""
    rank, sink = containers["rank-1"], containers["sink"]
    common = (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("SET", "other", "1"), ("ACL", "LIST"))
    streams = (("XADD", "ab:exposure:v1", "*", "a", "b"), ("DEL", "ab:exposure:v1"), ("XREAD", "STREAMS", "ab:x", "0"))
    for server, reader, name, refused in (
        ("redis", rank, "redis_url", (*common, ("GETRANGE", "other", "0", "1"))),
        ("events", rank, "events_url", (*common, ("XADD", "other", "*", "a", "b"))),
        ("events", sink, "events_url", (*common, *streams)),
    ):
        login = _secret(reader, name).split("@")[0] + "@127.0.0.1:6379"
        as_user = ("-u", login, "--no-auth-warning")
        greeted = _redis(containers[server], *as_user, "PING")  # the sink's user may not even do that
        _require(greeted == "PONG" or greeted.startswith("NOPERM"), f"no login at {server}: {greeted}")
        for command in refused:
            said = _redis(containers[server], *as_user, *command)
            _require(said.startswith("NOPERM"), f"{server} allows {' '.join(command)}: {said}")
    for server in ("redis", "events"):
        _require("NOAUTH" in _redis(containers[server], "DBSIZE"), f"{server} answers without a password")
        wrong = _redis(containers[server], "--user", "ranker", "--pass", "x", "--no-auth-warning", "PING")
        _require("WRONGPASS" in wrong or "NOAUTH" in wrong, f"{server} takes any password: {wrong}")
        looked = _docker("exec", containers[server], "look", "FLUSHALL")
        _require("NOPERM" in looked, f"people may do more than look: {looked}")
    print("Redis: no password, no answer; each user has only the keys and commands that it needs")


def _secret(container: str, name: str) -> str:
    return _docker("exec", container, "python", "-c", f"print(open('/run/secrets/{name}').read())")


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip()


def _redis(container: str, *command: str) -> str:
    return _docker("exec", container, "redis-cli", *command)


def check_prometheus(url: str, service: str, key: str) -> None:
    """The target is up, its requests are counted and their rate recorded, and no rule fails."""
    for job, count in (("ranker", 2), ("ranker-sink", 1), ("ranker-guard", 1)):
        up = f'sum(up{{job="{job}"}})'
        _until(lambda up=up, count=count: _value(url, up) == count, f"{up} is {count} in Prometheus")  # type: ignore[misc]
    counted = 'sum (ranker_requests_total{route="/rank",status="200"})'
    _until(lambda: (_value(url, counted) or 0) >= 20, f"{counted} is at least 20")
    read = 'sum (ranker_guard_readings_total{result="done"})'
    _until(lambda: (_value(url, read) or 0) >= 1, f"{read} is at least 1: the guard reads the sink's files")
    recorded = 'route:ranker_errors:ratio5m{route="/rank"}'

    def has_recorded() -> bool:
        _rank(service, "1", key)  # a rate needs requests between two scrapes
        return _value(url, recorded) == 0

    _until(has_recorded, f"{recorded} is 0")
    groups = _get(url, "/api/v1/rules")["data"]["groups"]
    ill = {rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if rule["health"] == "err"}
    _require(not ill, f"rules fail: {ill}")
    rules = sum(len(group["rules"]) for group in groups)
    print(f"Prometheus: target up, {_value(url, counted):.0f} rankings counted, {rules} rules without complaint")


def check_alertmanager(prometheus: str, url: str) -> None:
    """Alertmanager has its configuration, and the alert that always fires gets there."""
    _until(
        lambda: bool(_get(prometheus, "/api/v1/alertmanagers")["data"]["activeAlertmanagers"]), "Prometheus knows it"
    )

    def names() -> set[str]:
        return {alert["labels"]["alertname"] for alert in _get(url, "/api/v2/alerts")}

    _until(lambda: "RankerHeartbeat" in names(), "the alert that always fires is in Alertmanager")
    print(f"Alertmanager: {len(_get(url, '/api/v2/receivers'))} receivers; firing: {', '.join(sorted(names()))}")


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


def _rank(url: str, user: str, key: str = "") -> tuple[int, Any, Any]:
    return _post(url, "/rank", {"user_id": user, "candidates": CANDIDATES}, key)


def _post(url: str, path: str, document: dict[str, Any], key: str = "") -> tuple[int, Any, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(f"{url}{path}", json.dumps(document).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def _ready(url: str) -> int:
    return _status(url, "/health/ready")


def _status(url: str, path: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}{path}", timeout=5) as answer:
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
