"""Sets of rules on made-up candidates, and a slow reference of each rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from contract.bundle.vocabulary import Vocabulary
from contract.experiments.rules import Rule, RuleSet
from service.bundles.bundle import Bundle
from service.ranking.candidates import Candidates, candidates_of
from service.ranking.rules.applied import Ruled, ruled
from service.ranking.rules.book import bundle_rules

NOW_MS = 1_000_000_000


def rule_set(*rules: Mapping[str, Any]) -> tuple[Rule, ...]:
    return TypeAdapter[tuple[Rule, ...]](RuleSet if rules else tuple[Rule, ...]).validate_json(json.dumps(rules))


def with_facts(bundle: Bundle, facts: Mapping[str, Mapping[str, Any]]) -> Bundle:
    """Return a bundle with other facts about its items."""
    return replace(bundle, catalogue=facts)


def with_items(bundle: Bundle, facts: Mapping[str, Mapping[str, Any]]) -> Bundle:
    """Return a bundle of these items."""
    return replace(bundle, items=Vocabulary(list(facts)), catalogue=facts)


def applied(
    bundle: Bundle,
    rules: Sequence[Mapping[str, Any]],
    item_ids: Sequence[str],
    scores: Sequence[float],
    features: Mapping[str, Mapping[str, object]] | None = None,
    **how: Any,
) -> Ruled:
    """Apply rules to candidates; those that the bundle knows have the scores."""
    candidates = candidates_of(item_ids, bundle.items)
    sent = {place: features[item] for place, item in enumerate(candidates.item_ids) if features and item in features}
    values = np.array(scores, dtype=np.float32)
    return ruled(bundle_rules("set", rule_set(*rules), bundle), candidates, values, sent, NOW_MS, **how)


def order_of(result: Ruled) -> list[str]:
    """Return the ids of the candidates with a score, best first."""
    known = result.candidates.known
    order = np.lexsort((-result.after, result.is_late[known]))
    return [result.candidates.item_ids[place] for place in known[order].tolist()]


def moved(result: Ruled) -> dict[str, list[str]]:
    """Return the rules that moved each item."""
    return {
        result.candidates.item_ids[place]: [
            name for number, name in enumerate(result.rules.names) if int(result.moves[place]) >> number & 1
        ]
        for place in np.flatnonzero(result.moves).tolist()
    }


def slow_diversity(
    groups: Sequence[Sequence[str]], scores: NDArray[np.float32], decay: float, floor: float
) -> list[float]:
    """Return the scores after the formula of the docs, item by item."""
    counts: dict[str, int] = {}
    found = scores.astype(np.float64).tolist()
    for place in np.argsort(-scores, kind="stable").tolist():
        repeats = max([counts.get(group, 0) for group in groups[place]], default=0)
        found[place] += float(np.log((1 - floor) * decay**repeats + floor))
        for group in groups[place]:
            counts[group] = counts.get(group, 0) + 1
    return found


def known_and_unknown(count: int, known: int) -> Candidates:
    """Return candidates of which the first ones are known."""
    places = np.arange(known)
    return Candidates([f"i{place + 1}" for place in range(count)], places, list(range(known, count)), places + 1)
