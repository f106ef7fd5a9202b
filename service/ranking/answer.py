"""The answered list: candidates ordered by score, or by popularity, and its explanation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.experiments.served import ColdWay
from service.bundles.bundle import Bundle
from service.inference.scorer import ScoredRow
from service.names import Degraded
from service.ranking.candidates import Candidates, best
from service.ranking.cold import merged_order, places_of
from service.ranking.context import ContextRead
from service.ranking.listed import Listed
from service.store.behaviours import StoredBehaviours

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Explanation of the list: for people, never for ranking."""

    read: int  # behaviours from the store
    recent: int  # behaviours that came with the request and were not stored yet
    corrupt: int  # stored records that were dropped
    used: int  # behaviours that the model read
    truncated: int  # left out as too old for the model
    unread_behaviours: int  # left out because the model does not read their action
    unknown_behaviours: int  # left out because the model does not know their item
    unknown_candidates: int
    state_cached: bool
    user: Mapping[str, list[Any]]  # the model's own, say `period_weights`; Any: numbers, nested as the model likes
    items: Mapping[str, list[Any]]  # the model's own, aligned with the answered list, None where it has none
    context: Mapping[str, ContextRead] = field(default_factory=dict)  # what the model read of it


class Merged(NamedTuple):
    """Which arm placed each item of an interleaved list, and where each arm's own list has it."""

    teams: list[str | None]  # None where both arms agree
    ranks: list[list[int | None]]  # from 1, the control's first; None: the arm's model does not rank the item


class MovedBy(NamedTuple):
    """Which rules moved each item of a list."""

    names: tuple[str, ...]  # of the rules that were on
    moves: list[int]  # by item; bit n: rule n moved it
    counts: Mapping[str, int]  # candidates that each rule moved, those that were cut off the list too


Known = bool | Literal["features"]
"""Whether the model knows an item, or has scored it from its features."""


class Ranking(NamedTuple):
    """An answered list, best first. In order of popularity there are no scores: a count is not a model's score."""

    item_ids: Sequence[str]
    scores: list[float | None]
    known: Sequence[Known]
    model: str
    version: str
    degraded: tuple[Degraded, ...]
    timings: Mapping[str, float]  # seconds by stage, as in service.metrics.STAGES
    explanation: Explanation | None = None
    merged: Merged | None = None  # of an interleaved list
    is_mixed: bool = False  # whether items without a score may be among the others
    moved: MovedBy | None = None  # if rules were on
    places: NDArray[np.int64] | None = None  # among the candidates; only if numbers were given in place of the scores
    ignored_context: tuple[str, ...] = ()  # names of the request's context that the model does not read


def ranking_of(
    bundle: Bundle,
    candidates: Candidates,
    scored: ScoredRow | None,
    *,
    limit: int | None,
    degraded: Sequence[Degraded],
    timings: Mapping[str, float],
    explanation: Explanation | None = None,
    cold: ColdWay = "last",
    instead: NDArray[np.float32] | None = None,
) -> Ranking:
    """Order candidates by the model's scores, or by the bundle's popularity if it gave none.

    Those without a score follow, or are placed among the others by `cold` (cold.py). `instead` is in place of the
    scores, or of the popularity.
    """
    numbers: NDArray[np.float32] = bundle.popularity[candidates.indices] if scored is None else scored.scores
    if instead is not None:
        numbers = instead
    count = candidates.total if limit is None else min(limit, candidates.total)
    if scored is None or scored.order is None or instead is not None:
        order = best(numbers, min(count, len(numbers)))
    else:
        order = scored.order[:count]
    scores: list[float | None] = [None] * len(order) if scored is None else numbers[order].tolist()
    known = [True] * len(order)
    if candidates.unknown:
        rest = list(candidates.unknown[: count - len(order)])
        item_ids: Sequence[str] = _at(candidates.item_ids, [*candidates.known[order].tolist(), *rest])
        scores, known = [*scores, *[None] * len(rest)], [*known, *[False] * len(rest)]
    elif isinstance(candidates.item_ids, Listed):
        item_ids = Listed(bundle.items, candidates.indices[order])
    else:  # then the place of a score is the place of its candidate
        item_ids = _at(candidates.item_ids, order.tolist())
    if explanation is not None and scored is not None:
        explanation = _with_the_model_s(explanation, bundle, scored, order, len(item_ids) - len(order))
    manifest = bundle.manifest
    ranking = Ranking(
        item_ids, scores, known, manifest.model, manifest.version, tuple(degraded), timings,
        explanation,
    )  # fmt: skip
    if instead is not None:
        places = np.concatenate([candidates.known[order], np.array(candidates.unknown, dtype=np.int64)])[:count]
        ranking = ranking._replace(places=places)
    if cold == "last" or scored is None or not candidates.unknown:
        return ranking
    places = places_of(cold, manifest.new_item_prior, len(numbers), len(candidates.unknown))
    return _with_the_cold_placed(ranking, candidates, count, places)


def reordered(ranking: Ranking, order: Sequence[int]) -> Ranking:
    """Return the list with its items in another order; those that are not named are left out."""

    def moved(values: Sequence[T]) -> list[T]:
        return [values[place] for place in order]

    explanation, merged, by_rules = ranking.explanation, ranking.merged, ranking.moved
    if explanation is not None:
        explanation = replace(explanation, items={name: moved(values) for name, values in explanation.items.items()})
    if merged is not None:
        merged = Merged(moved(merged.teams), moved(merged.ranks))
    if by_rules is not None:
        by_rules = by_rules._replace(moves=moved(by_rules.moves))
    item_ids = ranking.item_ids
    if isinstance(item_ids, Listed):
        item_ids = Listed(item_ids.vocabulary, item_ids.indices[list(order)])
    else:
        item_ids = moved(item_ids)
    return ranking._replace(
        item_ids=item_ids, scores=moved(ranking.scores), known=moved(ranking.known),
        explanation=explanation, merged=merged, moved=by_rules, is_mixed=True,
    )  # fmt: skip


def _with_the_cold_placed(ranking: Ranking, candidates: Candidates, count: int, places: NDArray[np.int64]) -> Ranking:
    """Move the candidates without a score, which follow the others, to their places in the whole list."""
    scored = len(candidates.known)
    entries = merged_order(places, scored, count).tolist()

    def moved(values: Sequence[T], of_cold: Callable[[int], T]) -> list[T]:
        return [values[entry] if entry < scored else of_cold(entry - scored) for entry in entries]

    explanation = ranking.explanation
    if explanation is not None:
        items = {name: moved(values, lambda _: None) for name, values in explanation.items.items()}
        explanation = replace(explanation, items=items)
    return ranking._replace(
        item_ids=moved(ranking.item_ids, lambda number: candidates.item_ids[candidates.unknown[number]]),
        scores=moved(ranking.scores, lambda _: None),
        known=[entry < scored for entry in entries],
        explanation=explanation,
        is_mixed=True,
        places=None if ranking.places is None else ranking.places[entries],
    )


def _at(item_ids: Sequence[str], places: Sequence[int]) -> list[str]:
    return [item_ids[place] for place in places] if len(places) < 2 else list(itemgetter(*places)(item_ids))


def explanation_of(stored: StoredBehaviours, recent: int, unknown: int, scored: ScoredRow | None) -> Explanation:
    """Describe what was read and left out; the model's part is added when the order is known."""
    return Explanation(
        read=len(stored.records),
        recent=recent,
        corrupt=stored.corrupt,
        used=scored.used if scored else 0,
        truncated=scored.truncated if scored else 0,
        unread_behaviours=scored.unread if scored else 0,
        unknown_behaviours=scored.unknown if scored else 0,
        unknown_candidates=unknown,
        state_cached=scored.state_hit if scored else False,
        user={},
        items={},
    )


def _with_the_model_s(
    explanation: Explanation, bundle: Bundle, scored: ScoredRow, order: NDArray[np.int64], rest: int
) -> Explanation:
    """Add the model's explanation; its parts about candidates are in the order of the answered list."""
    of_items = {spec.name for spec in bundle.manifest.score.outputs}
    user = {name: output.tolist() for name, output in scored.explanation.items() if name not in of_items}
    items = {
        name: [*output[order].tolist(), *[None] * rest]
        for name, output in scored.explanation.items()
        if name in of_items
    }
    return replace(explanation, user=user, items=items)
