"""Candidates that the model does not know, but that came with features: they get scores like the others.

Symbols: N candidates that the model knows, K with features, U others.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

import numpy as np

from contract.bundle.item_features import FeatureCoder
from service.bundles.bundle import Bundle
from service.inference.new_items import NewItem
from service.inference.scorer import ScoredRow
from service.ranking.answer import Ranking
from service.ranking.candidates import Candidates

Features = Mapping[str, Mapping[str, object]]
"""Raw features by item id."""


class Described(NamedTuple):
    """Candidates with features.

    Attributes:
        places: (K,) among the candidates, rising.
        items: (K,) in the model's terms.
        refused: features of all of them that the model does not read, or not with such a value.
    """

    places: list[int]
    items: list[NewItem]
    refused: int


def described(
    bundle: Bundle, candidates: Candidates, features: Features | None, ruled: Set[str] = frozenset()
) -> Described | None:
    """Return the unknown candidates that have features; None if there are none, or the bundle cannot score them.

    Features that only rules read (`ruled`) are left out.
    """
    if not features or bundle.new_items is None:
        return None
    coder = bundle.new_items.coder
    found = {place: features[item] for place in candidates.unknown if (item := candidates.item_ids[place]) in features}
    if ruled:
        kept = {place: without_rules(one, ruled, coder) for place, one in found.items()}
        found = {place: one for place, one in kept.items() if one or not found[place]}
    places, coded = list(found), [coder.usable_codes(one) for one in found.values()]
    if not coded:
        return None
    return Described(places, [NewItem.of(codes.values()) for codes, _ in coded], sum(refused for _, refused in coded))


def without_rules(features: Mapping[str, object], ruled: Set[str], coder: FeatureCoder) -> Mapping[str, object]:
    """Return the features without those that only rules read."""
    return {name: value for name, value in features.items() if name not in ruled or coder.reads(name)}


def with_described(
    bundle: Bundle, candidates: Candidates, new: Described, scored: ScoredRow
) -> tuple[Candidates, ScoredRow]:
    """Put candidates with features among those that the model knows, in the order of the request, with their scores."""
    assert scored.new_scores is not None
    finite = np.isfinite(scored.new_scores)
    places = np.array(new.places, dtype=np.int64)[finite]
    known = np.concatenate([candidates.known, places])
    order = known.argsort(kind="stable")
    indices = np.concatenate([candidates.indices, np.zeros(len(places), dtype=np.int64)])
    left, taken = candidates.unknown, set(places.tolist())
    of_items = {spec.name for spec in bundle.manifest.score.outputs}  # explanations of only the known candidates
    explanation = {name: values for name, values in scored.explanation.items() if name not in of_items}
    return (
        candidates._replace(
            known=known[order], indices=indices[order], unknown=[place for place in left if place not in taken]
        ),
        scored._replace(
            scores=np.concatenate([scored.scores, scored.new_scores[finite]])[order],
            explanation=explanation,
            order=None,
        ),
    )


def marked(ranking: Ranking, candidates: Candidates, new: Described) -> Ranking:
    """Mark the items whose score comes from features."""
    ids = {candidates.item_ids[place] for place in new.places}
    pairs = zip(ranking.item_ids, ranking.known, strict=True)
    known = ["features" if flag is True and item in ids else flag for item, flag in pairs]
    return ranking._replace(known=known, is_mixed=True)
