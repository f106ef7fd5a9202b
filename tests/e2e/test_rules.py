"""Rules after scoring through the running service: in the answer, its explanation, metrics and events."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
import yaml

from contract.bundle.manifest import CATALOGUE, MANIFEST, digest_of, parse_manifest, write_manifest
from contract.events.streams import RANKING_STREAM
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.redis,
    pytest.mark.onnx,
    pytest.mark.usefixtures("operators_read_once"),
]

MODEL = TinyModel(model="mgnm")
NOW_MS = 1_780_000_000_000
HOUR_MS = 3_600_000
CANDIDATES = [f"i{number}" for number in range(1, 13)]
DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "revision": "rules.1",
    "rules": {
        "spread": [
            {"diversity": {"by": "author", "decay": 0.5, "floor": 0.1}},
            {"boost": {"feature": "topic", "value": "cup", "factor": 9, "source": "callers"}},
            {"age_limit": {"hours": 36}},
        ]
    },
    "layers": [
        {"key": "rank", "salt": "rank", "defaults": {"model": "mgnm", "version": "1"}, "experiments": []},
        {
            "key": "look", "salt": "look", "defaults": {"rules": ""},
            "experiments": [
                {
                    "key": "author-spread", "kind": "ab", "salt": "author-spread", "status": "running",
                    "start": "2026-05-01T00:00:00Z", "end": "2026-07-15T00:00:00Z", "owner": "feed",
                    "slots": [[0, 10_000]],
                    "arms": [
                        {"key": "control", "buckets": [[0, 5_000]], "params": {}},
                        {"key": "treatment", "buckets": [[5_000, 10_000]], "params": {"rules": "spread"}},
                    ],
                }
            ],
        },
    ],
    "overrides": {"header_enabled": False, "units": {"ruled": {"look": "author-spread:treatment"}}},
}  # fmt: skip


def facts(number: int) -> dict[str, Any]:
    return {"author": f"author {number % 3}", "first_seen": NOW_MS - number * 4 * HOUR_MS}


def write_bundle(root: Path) -> None:
    """Write a tiny bundle whose catalogue has authors and the times at which items were first seen."""
    folder = MODEL.write(root)
    content = json.dumps({"items": {f"i{number}": facts(number) for number in range(1, MODEL.items + 1)}}).encode()
    (folder / CATALOGUE).write_bytes(content)
    manifest = parse_manifest((folder / MANIFEST).read_bytes())
    write_manifest(folder, manifest.model_copy(update={"files": {**manifest.files, CATALOGUE: digest_of(content)}}))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundles")
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(DOCUMENT, sort_keys=False))
    return tmp_path


@pytest.fixture
def service(home: Path, own_redis: RedisServer) -> Iterator[ServiceProcess]:
    made = ServiceProcess(home, own_redis.url, RANKING_LOG__SHARE="1").start()
    yield made
    made.close()


def ranked(service: ServiceProcess, user: str = "ruled", **fields: Any) -> dict[str, Any]:
    body = {"user_id": user, "candidates": CANDIDATES, "request_time": NOW_MS, **fields}
    answer = httpx.post(f"{service.url}/rank", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


def expected(raised: set[str]) -> tuple[list[str], dict[str, float]]:
    """Return the list and the scores by the formulas of docs/rules.md, item by item."""
    numbers = range(1, len(CANDIDATES) + 1)
    before = dict(zip(CANDIDATES, MODEL.expected([], list(numbers)).tolist(), strict=True))
    late = {item: NOW_MS - facts(int(item[1:]))["first_seen"] > 36 * HOUR_MS for item in CANDIDATES}
    counts: dict[str, int] = {}
    after: dict[str, float] = {}
    for item in sorted(CANDIDATES, key=lambda item: (late[item], -before[item])):
        author = facts(int(item[1:]))["author"]
        after[item] = before[item] + float(np.log(0.9 * 0.5 ** counts.get(author, 0) + 0.1))
        counts[author] = counts.get(author, 0) + 1
        after[item] += float(np.log(9)) * (item in raised)
    return sorted(CANDIDATES, key=lambda item: (late[item], -after[item])), after


def test_an_arm_with_rules_and_an_arm_without(service: ServiceProcess) -> None:
    features = {"i12": {"topic": "cup"}, "i2": {"topic": ["cup", "final"]}, "i3": {"topic": "other"}}
    plain = next(answer for user in map(str, range(50)) if not (answer := ranked(service, user))["parameters"]["rules"])
    assert not any("rules" in one for one in plain["items"])
    ruled = ranked(service, features=features, explain=True)
    order, scores = expected({"i12", "i2"})
    assert ruled["parameters"] == {"model": "mgnm", "version": "1", "rules": "spread"}
    assert [one["item_id"] for one in ruled["items"]] == order
    assert [one["score"] for one in ruled["items"]] == pytest.approx([scores[item] for item in order], abs=1e-4)
    assert ruled["explanation"]["items"]["score.after"] == [one["score"] for one in ruled["items"]]
    before = {one["item_id"]: one["score"] for one in plain["items"]}
    assert ruled["explanation"]["items"]["score.before"] == [before[item] for item in order]
    named = {one["item_id"]: set(one.get("rules", ())) for one in ruled["items"]}
    assert "boost:topic" in named["i2"]
    assert {item for item, rules in named.items() if "age_limit" in rules} <= {"i10", "i11", "i12"}
    assert not any("boost:topic" in named[item] for item in order if item not in ("i2", "i12"))
    short = ranked(service, features=features, limit=5)
    assert [one["item_id"] for one in short["items"]] == order[:5]


def test_metrics_and_events_name_the_rules(service: ServiceProcess, own_redis: RedisServer) -> None:
    moved = ranked(service)["items"]
    counted = {name: sum(name in one.get("rules", ()) for one in moved) for name in ("diversity:author", "age_limit")}
    assert counted["diversity:author"]
    scrape = httpx.get(f"{service.url}/metrics", timeout=20).text
    for name, count in counted.items():
        assert f'ranker_rule_moved_items_total{{rule="{name}",rules="spread"}} {float(count)}' in scrape
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    with redis.Redis.from_url(own_redis.url) as client:
        (event,) = [json.loads(fields[b"event"]) for _, fields in client.xrange(RANKING_STREAM)]  # type: ignore[union-attr]
    assert event["rules"] == "spread"
    assert event["moved"] == counted | {"boost:topic": 0}
    assert event["items"][:3] == [one["item_id"] for one in moved[:3]]


def test_features_that_were_stored_are_read(service: ServiceProcess) -> None:
    assert [one["item_id"] for one in ranked(service)["items"]] == expected(set())[0]
    items = [{"item_id": "i2", "features": {"topic": "cup"}}]
    stored = httpx.post(f"{service.url}/items", json={"items": items}, timeout=20)
    assert stored.json() == {"stored": 1, "refused": 0, "refusals": []}
    assert [one["item_id"] for one in ranked(service)["items"]] == expected({"i2"})[0]


def test_a_file_that_names_a_feature_the_bundle_lacks_is_refused(service: ServiceProcess) -> None:
    changed = json.loads(json.dumps(DOCUMENT))
    changed["rules"]["other"] = [{"name": "langs", "boost": {"feature": "language", "value": "en", "factor": 2}}]
    changed["layers"].append({"key": "more", "salt": "more", "defaults": {}})
    changed["layers"][1]["experiments"].append(
        {
            **changed["layers"][1]["experiments"][0], "key": "by-language", "salt": "by-language",
            "status": "draft", "slots": [],
            "arms": [
                {"key": "control", "buckets": [[0, 5_000]], "params": {}},
                {"key": "treatment", "buckets": [[5_000, 10_000]], "params": {"rules": "other"}},
            ],
        }
    )  # fmt: skip
    service.experiments.write_text(yaml.safe_dump(changed, sort_keys=False))
    service.will_log("by-language:treatment: rules other: langs: feature language: bundle mgnm@1 has no such")
    assert ranked(service)["parameters"]["rules"] == "spread"  # what was in force still is
