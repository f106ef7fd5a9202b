"""The rules of an arm on the candidates of one ranking, and on its list.

Age limits come first: they part the candidates. The other rules follow in the order of the file, each on the scores
that the one before left. Symbols: C candidates, N of them with a score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.ranking.answer import MovedBy, Ranking, reordered
from service.ranking.candidates import Candidates
from service.ranking.rules.book import BundleRules
from service.ranking.rules.features import Subject
from service.ranking.rules.kinds import Scored

Scores = NDArray[np.float32]


class Ruled(NamedTuple):
    """The result of rules on the scores of one ranking.

    Attributes:
        rules: the set.
        candidates: of the ranking.
        before, after: scores (N,).
        is_late: (C,) which candidates follow all others.
        moves: (C,) bit n: rule n moved the candidate.
        counts: candidates that each rule moved, by its name.
    """

    rules: BundleRules
    candidates: Candidates
    before: Scores
    after: Scores
    is_late: NDArray[np.bool_]
    moves: NDArray[np.int64]
    counts: Mapping[str, int]


def ruled(
    rules: BundleRules,
    candidates: Candidates,
    scores: Scores,
    features: Mapping[int, Mapping[str, object]],
    now_ms: int,
    *,
    is_linear: bool | None = None,
) -> Ruled:
    """Apply rules to scores (N,).

    Args:
        rules: for the bundle that scored.
        candidates: their known ones have the scores; index 0 is an item that is not in the vocabulary.
        scores: before.
        features: those that callers sent or stored, by place among the candidates.
        now_ms: the time of the request.
        is_linear: whether the scores are weights; by default as the bundle's.
    """
    indices = np.zeros(candidates.total, dtype=np.int64)
    indices[candidates.known] = candidates.indices
    subject = Subject(indices, features, now_ms)
    is_late, moves = np.zeros(candidates.total, dtype=np.bool_), np.zeros(candidates.total, dtype=np.int64)
    for number, age in rules.ages:
        late = age.late(subject)
        is_late |= late
        moves |= late.astype(np.int64) << number
    places = candidates.known
    linear = rules.is_linear if is_linear is None else is_linear
    scored = first = Scored(places, scores.astype(np.float64), is_late[places], linear)
    for number, rule in rules.scorings:
        changed = rule.scores(subject, scored)
        moves[places] |= (changed != scored.scores).astype(np.int64) << number
        scored = scored._replace(scores=changed)
    after = scored.scores.astype(np.float32)
    moves[places] *= _has_moved(first, scored._replace(scores=after.astype(np.float64)))
    counts = {name: int((moves >> number & 1).sum()) for number, name in enumerate(rules.names)}
    return Ruled(rules, candidates, scores, after, is_late, moves, counts)


def _has_moved(before: Scored, after: Scored) -> NDArray[np.bool_]:
    """Return which candidates (N,) have another rank among those with a score than without rules."""
    old, new = np.empty((2, len(before.places)), dtype=np.int64)
    old[np.argsort(-before.scores, kind="stable")] = new[after.order()] = np.arange(len(before.places))
    return np.asarray(old != new)


def finished(ranking: Ranking, result: Ruled, limit: int | None, *, explain: bool) -> Ranking:
    """Move what an age limit names behind all others, cut the list, and note which rules moved each item."""
    places = ranking.places
    assert places is not None  # the list was ordered by the scores after the rules
    moves: list[int] = result.moves[places].tolist()
    ranking = ranking._replace(moved=MovedBy(result.rules.names, moves, result.counts), is_mixed=True)
    if explain and ranking.explanation is not None:
        both: dict[str, list[Any]] = {  # Any: as the model's own
            "score.before": _of_places(result, result.before, places),
            "score.after": _of_places(result, result.after, places),
        }
        both_too = replace(ranking.explanation, items={**ranking.explanation.items, **both})
        ranking = ranking._replace(explanation=both_too)
    if not result.is_late.any():
        return ranking if limit is None else reordered(ranking, range(min(limit, len(places))))
    return reordered(ranking, np.argsort(result.is_late[places], kind="stable")[:limit].tolist())


def _of_places(result: Ruled, scores: Scores, places: NDArray[np.int64]) -> list[float | None]:
    found = dict(zip(result.candidates.known.tolist(), scores.tolist(), strict=True))
    return [found.get(place) for place in places.tolist()]
