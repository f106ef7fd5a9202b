"""Features that only rules read neither describe a new item to the model nor count as refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from contract.bundle.item_features import FeatureCoder, FeatureSpec
from service.bundles.bundle import Bundle
from service.bundles.new_items import NewItems
from service.ranking.candidates import candidates_of
from service.ranking.described import described

pytestmark = pytest.mark.onnx

CODER = FeatureCoder([FeatureSpec(name="author", kind="category", values=1, cardinality=2)], {"author": ["ann"]})


def test_features_that_only_rules_read_describe_nothing(bundles: Mapping[str, Bundle]) -> None:
    bundle = replace(bundles["control"], new_items=NewItems(cast(Any, None), {}, CODER))
    candidates = candidates_of(["i1", "new-1", "new-2", "new-3"], bundle.items)
    features: dict[str, dict[str, object]] = {
        "new-1": {"author": "ann", "published": 5}, "new-2": {"published": 5}, "new-3": {},
    }  # fmt: skip
    plain = described(bundle, candidates, features)
    assert plain is not None
    assert (plain.places, plain.refused) == ([1, 2, 3], 2)
    ruled = described(bundle, candidates, features, frozenset({"author", "published"}))
    assert ruled is not None
    assert (ruled.places, ruled.refused) == ([1, 3], 0)
    assert ruled.items[0] == plain.items[0]
    assert described(bundle, candidates, {"new-2": {"published": 5}}, frozenset({"published"})) is None
