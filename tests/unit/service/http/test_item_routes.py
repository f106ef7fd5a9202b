"""`POST /items`: features are checked against the served bundles, and stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from contract.bundle.item_features import FeatureCoder, FeatureSpec
from contract.experiments.assignment import snapshot_of
from service.bundles.bundle import Bundle, load_bundle
from service.bundles.new_items import NewItems
from service.store.behaviours import StoreUnavailable
from tests.support.builders import TinyModel
from tests.support.fakes import Edge

pytestmark = pytest.mark.anyio

CODER = FeatureCoder(
    [
        FeatureSpec(name="category", kind="category", values=1, cardinality=2),
        FeatureSpec(name="words", kind="number", values=1, cardinality=3, edges=(100,)),
    ],
    {"category": ["sport"]},
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    tiny = load_bundle(TinyModel().write(tmp_path), max_bytes=10_000_000)
    return replace(tiny, new_items=NewItems(cast(Any, None), {}, CODER))


def item(item_id: str, **features: object) -> dict[str, object]:
    return {"item_id": item_id, "features": features}


async def test_features_are_stored_and_those_that_no_bundle_reads_are_refused(bundle: Bundle) -> None:
    edge = Edge()
    edge.bundles.bundles = [bundle]
    items = [item("a1", category="sport", words=20), item("a2", colour="red"), item("a3", words="many"), item("a4")]
    async with edge.client() as client:
        answer = await client.post("/items", json={"items": items})
    assert answer.status_code == 200
    assert answer.json() == {
        "stored": 2,
        "refused": 2,
        "refusals": [
            {"index": 1, "problem": "colour: the model reads no such feature"},
            {"index": 2, "problem": "words: expected a finite number"},
        ],
    }
    assert edge.items.stored == {"a1": {"category": "sport", "words": 20}, "a4": {}}
    assert edge.samples("ranker_items_written_total") == {'{result="stored"}': 2.0, '{result="refused"}': 2.0}


async def test_without_a_bundle_for_new_items_all_features_are_stored() -> None:
    edge = Edge()
    async with edge.client() as client:
        answer = await client.post("/items", json={"items": [item("a1", colour="red")]})
    assert answer.json()["stored"] == 1


async def test_features_that_only_a_rule_reads_are_stored(bundle: Bundle) -> None:
    edge = Edge()
    edge.bundles.bundles = [bundle]
    limit = {"age_limit": {"hours": 24, "feature": "published", "source": "callers"}}
    layer = {"key": "rank", "salt": "rank", "defaults": {"model": "tiny", "version": "1", "rules": "fresh"}}
    edge.experiments.snapshot = snapshot_of(
        {"schema": 1, "revision": "r", "rules": {"fresh": [limit]}, "layers": [layer]}
    )
    items = [item("a1", published=5), item("a2", published=5, words="many"), item("a3", published=5, colour="red")]
    async with edge.client() as client:
        answer = await client.post("/items", json={"items": items})
    assert answer.json()["stored"] == 1
    assert edge.items.stored == {"a1": {"published": 5}}


async def test_one_bundle_that_can_read_the_features_is_enough(bundle: Bundle) -> None:
    edge = Edge()
    other = replace(bundle, new_items=NewItems(cast(Any, None), {}, FeatureCoder([], {})))
    edge.bundles.bundles = [other, bundle]
    async with edge.client() as client:
        answer = await client.post("/items", json={"items": [item("a1", words=3)]})
    assert answer.json()["stored"] == 1


async def test_features_of_too_many_bytes_are_refused() -> None:
    edge = Edge()
    large = {f"f{number}": "x" * 2_000 for number in range(9)}
    async with edge.client() as client:
        answer = await client.post("/items", json={"items": [item("a1", **large)]})
    assert answer.json()["refusals"] == [{"index": 0, "problem": "the features take more than 16384 bytes"}]


async def test_a_store_that_is_down_answers_503() -> None:
    edge = Edge()
    edge.items.fault = StoreUnavailable()
    async with edge.client() as client:
        answer = await client.post("/items", json={"items": [item("a1", words=3)]})
    assert answer.status_code == 503


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": [{"item_id": "a"}]}, "items.0.features"),
        ({"items": [item("a"), item(" a")]}, "items.1.item_id"),
        ({"items": [item("a", words={"x": 1})]}, "items.0.features.words"),
        ({"items": [{**item("a"), "x": 1}]}, "items.0.x"),
    ],
)
async def test_a_bad_body_is_refused_and_the_field_named(body: dict[str, object], field: str) -> None:
    edge = Edge()
    async with edge.client() as client:
        answer = await client.post("/items", json=body)
    assert answer.status_code == 422
    assert field in answer.text
    assert not edge.items.stored
