"""Ids of users and items, and secrets, are in no log, metric, trace or error, in good times and in faults.

Canaries go into every place of a request that a caller chooses, with and without mistakes, on every route. Then every
output is searched. The search has teeth: it finds the same canaries where they belong.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml
from ranker_client import RankerClient, Refused

from exporter.sign import main as sign
from service.replay.__main__ import main as replay
from service.seed.__main__ import main as seed
from tests.support.access import bearer, document, key_of
from tests.support.builders import TinyModel
from tests.support.canaries import (
    AUTHOR,
    DEVICE,
    ITEM,
    ODD,
    OVERRIDE_SECRET,
    PASSWORD,
    PEOPLE,
    PSEUDONYM_KEY,
    SECRETS,
    UNITS,
    USER,
    VALUE,
    WRONG_KEY,
    forms,
    found,
    spoilt,
)
from tests.support.haproxy import proxy
from tests.support.raw_http import RawConnection
from tests.support.redis_server import RedisServer, free_port
from tests.support.service_process import ServiceProcess
from tests.support.trace_collector import TraceCollector

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

NOW = 1_700_000_000_000
RANK: dict[str, Any] = {"user_id": USER, "candidates": ["i1", ITEM], "attributes": {"segment": VALUE}}
BEHAVIOUR = {"user_id": USER, "item_id": ITEM, "ts": NOW}
PLAY = {
    "user_id": USER, "type": "like", "item_id": ITEM, "author_id": AUTHOR, "device_id": DEVICE, "view_id": VALUE
}  # fmt: skip
GOOD: dict[str, list[Any]] = {
    "/rank": [
        RANK,
        RANK | {"explain": True, "recent": [{"item_id": ITEM, "ts": NOW}], "context": {"device": VALUE}},
        RANK | {"features": {ITEM: {"genre": VALUE}}, "seen": "drop"},
    ],
    "/rank/batch": [{"shown": False, "rankings": [RANK, {"user_id": USER, "candidates": []}]}],
    "/behaviours": [{"behaviours": [BEHAVIOUR]}],
    "/items": [{"items": [{"item_id": ITEM, "features": {"genre": VALUE}}]}],
    "/feedback": [{"feedback": [PLAY]}, {"feedback": [{"user_id": USER, "item_id": ITEM, "action": "play"}]}],
}


def bodies() -> Iterator[tuple[str, bytes]]:
    """Yield bodies for every route that takes one."""
    for path, documents in GOOD.items():
        for good in documents:
            whole = json.dumps(good).encode()
            yield path, whole
            yield path, whole[:-2]
            yield path, whole[:20] + b"\xff" + whole[20:]
            yield path, whole + whole
            yield from ((path, json.dumps(wrong).encode()) for wrong in spoilt(good))


def packed() -> Iterator[tuple[str, bytes]]:
    """Yield bodies with `Content-Encoding: gzip`, of which only the first of each route is whole."""
    for path, documents in GOOD.items():
        whole = json.dumps(documents[0]).encode()
        content = gzip.compress(whole)
        bomb = gzip.compress(whole + b" " * 50_000_000, 1)
        for body in (content, whole, content[:-9], content + whole, gzip.compress(content), bomb):
            yield path, body


RAW = [
    f"GET /{USER}/{ITEM} HTTP/9.9\r\nHost: x\r\n\r\n",
    f"GET /rank?user={USER}&item={ITEM} HTTP/1.1\r\nHost: x\r\n{WRONG_KEY}\r\n\r\n",
    f"{USER} /rank HTTP/1.1\r\nHost: x\r\n\r\n",
    f"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Length: {USER}\r\n\r\n",
    f"POST /rank HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {ITEM}\r\n\r\n",
    f"POST /rank HTTP/1.1\r\nHost: x\r\nX-{USER}: {'y' * 70_000}\r\n\r\n",
    f"GET /behaviours/{USER}%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    f"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{USER}",
]
HEADERS = [
    {},
    {"Authorization": f"Bearer {WRONG_KEY}"},
    {"Authorization": f"Basic {WRONG_KEY}"},
    {"X-AB-Override": f'rank={USER}:{ITEM};t=1;s="{"0" * 64}"'},
    {"X-AB-Override": VALUE},
    {"X-Deadline-Ms": USER},
    {"traceparent": f"00-{USER}"},
    {"Content-Type": f"text/{VALUE}"},
    {"Content-Encoding": VALUE},
    {"Origin": f"https://{VALUE}.example"},
]  # the key of a caller is added, except where there is one


class World:
    """A service with every output on, its Redis and its collector of traces; what it answered."""

    def __init__(self, folder: Path, *, pseudonym_key: str = PSEUDONYM_KEY) -> None:
        self.redis = RedisServer(port=free_port()).start()
        self.redis.call("ACL", "SETUSER", "ranker", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        self.collector = TraceCollector()
        (folder / "access.json").write_bytes(document())
        secrets = {"redis_url": f"redis://ranker:{PASSWORD}@127.0.0.1:{self.redis.port}/0", "override": OVERRIDE_SECRET}
        for name, value in secrets.items():
            (folder / name).write_text(value)
        settings = {"ADMIN__PORT": str(free_port()), "REDIS__URL": "", "REDIS__URL_FILE": str(folder / "redis_url")}
        settings |= {"EXPERIMENTS__PSEUDONYM_KEY": pseudonym_key} if pseudonym_key else {}
        self.service = ServiceProcess(
            folder, "", **settings,
            EXPERIMENTS__OVERRIDE_SECRET_FILE=str(folder / "override"), EXPERIMENTS__RELOAD_MS="100",
            ACCESS__FILE=str(folder / "access.json"), HTTP__BEHAVIOURS_ENABLED="true", HTTP__DOCS_ENABLED="true",
            RANKING_LOG__SHARE="1", RANKING_LOG__ATTRIBUTES='["segment"]', LOGGING__LEVEL="debug",
            TRACES__ENDPOINT=self.collector.url, TRACES__SHARE="1", TRACES__MAX_PER_SECOND="10000",
        )  # fmt: skip
        self._give_a_shadow()
        self.errors: dict[str, bytes] = {}
        self.answered = b""

    def _give_a_shadow(self) -> None:
        file = self.service.experiments
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        for arm in document["layers"][0]["experiments"][0]["arms"]:
            arm["shadow"] = {"model": "mgnm", "version": "1", "share": 1.0}
        file.write_text(yaml.safe_dump(document), encoding="utf-8")

    def start(self) -> World:
        self.service.start()
        self.client = httpx.Client(base_url=self.service.url)
        return self

    def close(self) -> None:
        self.client.close()
        self.service.close()
        self.redis.close()
        self.collector.close()

    def send(self, method: str, path: str, content: bytes = b"", **headers: str) -> int:
        """Send a request; keep the answer."""
        chosen = {"Content-Type": "application/json", **bearer("all"), **headers}
        answer = self.client.request(method, path, content=content, headers=chosen)
        whole = f"{answer.headers}".encode() + answer.content
        if answer.status_code >= 400:
            self.errors[f"{answer.status_code} of {method} {path} {content[:200]!r} {headers}"] = whole
        else:
            self.answered += whole
        return answer.status_code

    def send_all(self) -> None:
        """Send every body to its route, every path with every method, and requests that no client sends."""
        for path, body in bodies():
            self.send("POST", path, body)
        for path, body in packed():
            self.send("POST", path, body, **{"Content-Encoding": "gzip"})
        for headers in HEADERS:
            self.send("POST", "/rank", json.dumps(RANK).encode(), **headers)
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            for path in (f"/behaviours/{USER}", f"/behaviours/{USER}%0A", f"/{USER}", f"/rank?user={USER}&item={ITEM}"):
                self.send(method, path)
        for number, raw in enumerate(RAW):
            self.errors[f"raw {number}"] = asyncio.run(self._raw(raw.encode(), self.service.port))

    def send_through_a_proxy(self) -> None:
        """Send the same paths and raw requests through HAProxy, which logs every request."""
        with proxy(self.service.port, self.service.port, self.service.folder, logs=True) as port:
            for path in (f"/behaviours/{USER}", f"/{ITEM}", f"/rank?user={USER}"):
                httpx.get(f"http://127.0.0.1:{port}{path}", headers=bearer("all"))
            httpx.post(f"http://127.0.0.1:{port}/rank", json=RANK, headers={"Authorization": f"Bearer {WRONG_KEY}"})
            for number, raw in enumerate(RAW):
                self.errors[f"raw {number} through the proxy"] = asyncio.run(self._raw(raw.encode(), port))

    def call_with_the_client(self) -> None:
        """Make the errors of the Python client, which a caller may log."""
        for key, candidates in ((WRONG_KEY, [ITEM]), (key_of("all"), [ITEM + ODD]), (key_of("write"), [ITEM])):
            with RankerClient(self.service.url, api_key=key) as client, pytest.raises(Refused) as raised:
                client.rank(USER, candidates)
            self.errors[f"client {raised.value.status}"] = f"{raised.value} {raised.value!r} {client!r}".encode()

    async def _raw(self, content: bytes, port: int) -> bytes:
        connection = await RawConnection.open(port)
        connection.send(content)
        answer = await connection.answer()
        await connection.close()
        return repr(answer).encode()

    def outputs(self) -> dict[str, bytes]:
        """Everything that people and programs around the service get to see, answers to callers aside."""
        described = self.client.get(f"{self.service.admin_url}/openapi.json", headers=bearer("all")).json()["paths"]
        paths = [path for path, methods in described.items() if "get" in methods and "{" not in path]
        assert {"/metrics", "/info"} <= set(paths)
        paths.append("/debug/slow")  # for operators only, so not in the document
        operators = {
            f"GET {path}": self.client.get(f"{self.service.admin_url}{path}", headers=bearer("all")).content
            for path in paths
        }
        spool = self.service.folder / "spool"
        names = "\n".join(str(path) for path in spool.rglob("*")) if spool.exists() else ""
        spans = repr(self.collector.spans).encode()
        logs = {path.name: path.read_bytes() for path in self.service.folder.glob("*.log")}
        return {**operators, **logs, **self.errors, "names in the spool": names.encode(), "traces": spans}

    def spooled(self) -> bytes:
        """The content of the spool."""
        return b"".join(path.read_bytes() for path in (self.service.folder / "spool").rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("canaries"))
    yield made.start()
    made.close()


def faults(world: World) -> None:
    """Publish a bad bundle and bad files of experiments, kill Redis, and go on sending."""
    service = world.service
    directory = TinyModel(model="mgnm", version="2").write(service.bundles)
    (directory / "score.onnx").write_bytes(USER.encode())
    good = service.experiments.read_text(encoding="utf-8")
    for number, wrong in enumerate(
        (*(good.replace("units: {}", bad) for bad in UNITS), f"{USER}: [", good.replace("latest", "2"))
    ):
        service.experiments.write_text(wrong, encoding="utf-8")
        service.until(lambda number=number: service.log().count("experiments_rejected") > number, "refused")
    service.experiments.write_text(good, encoding="utf-8")
    (service.folder / "access.json").write_text(f"callers: [{{id: {WRONG_KEY}}}]", encoding="utf-8")
    service.will_log("access_file_refused")
    world.redis.kill()
    for path, documents in GOOD.items():
        world.send("POST", path, json.dumps(documents[0]).encode())
    world.send("GET", f"/behaviours/{USER}")


def metric_of(world: World, name: str, labels: dict[str, str]) -> float:
    """The sum of the series of a metric that have these labels."""
    text = world.client.get(f"{world.service.admin_url}/metrics", headers=bearer("all")).text
    pairs = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{") and all(one in line for one in pairs)]
    return sum(float(line.split(" # ")[0].rsplit(" ", 1)[1]) for line in lines)


def commands(world: World, slow: bytes, capsys: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    """The output of the command lines that get such inputs."""
    folder = world.service.folder
    captured, key = folder / "slow.json", folder / "key"
    captured.write_bytes(slow)
    key.write_text(PASSWORD)
    key.chmod(0o600)
    capsys.readouterr()
    assert replay([str(captured), "--bundles", str(world.service.bundles), "--runs", "1"]) == 0
    assert sign(["bundle", str(key), str(world.service.bundles / "mgnm" / "1")]) == 1
    assert seed([str(captured), "--key-file", str(key), "--url", world.service.url]) == 1
    said = capsys.readouterr()
    return {"commands": f"{said.out}{said.err}".encode()}


@pytest.mark.slow
def test_no_canary_gets_out(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.send_all()
    world.send_through_a_proxy()
    world.call_with_the_client()
    stream = world.redis.call("XRANGE", "fb:activity:v1", "-", "+")
    statuses = {name.split()[0] for name in world.errors}
    assert statuses >= {"400", "401", "404", "405", "413", "415", "422", "raw"}
    service = world.service
    for metric, labels in (
        ("ranker_shadow_rankings_total", {"shadow": "mgnm@1"}),
        ("ranker_drift_items_total", {"kind": "candidate", "known": "no"}),
    ):
        service.until(lambda m=metric, at=labels: metric_of(world, m, at) > 0, metric)  # type: ignore[misc]
    faults(world)
    outputs = world.outputs()
    outputs |= commands(world, outputs["GET /debug/slow"], capsys)
    world.service.send(signal.SIGTERM)
    world.service.wait()
    outputs |= {"the log of the end": world.service.log().encode()}
    assert world.collector.spans
    assert found(outputs, (*PEOPLE, ITEM, VALUE, *SECRETS)) == []
    assert b" 401 " in outputs["haproxy.log"]
    assert b'"request_id"' in outputs["GET /debug/slow"]
    assert found({"stream": stream, "spool": world.spooled()}, (*PEOPLE, *SECRETS)) == []
    # Teeth: the canaries were there. Answers and events have the item, and the search finds it.
    assert found({"answers": world.answered}, (ITEM,))
    assert found({"spool": world.spooled()}, (ITEM,))
    assert b'"h:' in world.spooled()


@pytest.mark.slow
def test_a_leak_is_found(tmp_path: Path) -> None:
    """Without the pseudonym key, events have the ids: the same search finds them in the spool."""
    made = World(tmp_path, pseudonym_key="").start()
    try:
        made.redis.kill()
        made.send("POST", "/feedback", json.dumps(GOOD["/feedback"][0]).encode())
        made.service.send(signal.SIGTERM)
        made.service.wait()
        leaks = found({"spool": made.spooled()}, PEOPLE)
        assert {canary for leak in leaks for canary in PEOPLE if canary in leak} == set(PEOPLE)
    finally:
        made.close()


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_the_search_knows_the_usual_encodings(before: str) -> None:
    text = f"{before}{USER} {ITEM}/"
    for encoded in (text, text.upper(), quote(text), text.encode().hex(), base64.b64encode(text.encode()).decode()):
        assert len(found({"log": b"..." + encoded.encode() + b"..."}, (USER, ITEM))) == 2, encoded
    assert not found({"log": b"canary-user"}, (USER, ITEM))
    assert all(forms(USER))
