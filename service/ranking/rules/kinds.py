"""The kinds of rules, each prepared for one bundle: vectorised over the candidates of a ranking.

A score is the logarithm of a weight, so a rule that multiplies a weight adds to the score. The scores of a few models
are the weights themselves (`is_linear`); a negative one is then divided, so that a factor below 1 always lowers.
Symbols: C candidates, N of them with a score, I items of the vocabulary, w the most values of one item.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.experiments.rules import AgeLimit, Boost, Diversity
from service.ranking.rules.features import Column, Subject, number_of, texts_of

_LEAST_LOG: Final = -60.0  # of a factor by which a linear score is multiplied: it must not become 0

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Scored(NamedTuple):
    """The candidates with a score.

    Attributes:
        places: (N,) among the candidates.
        scores: (N,).
        is_late: (N,) whether an age limit puts them behind all others.
        is_linear: whether the scores are weights, not their logarithms.
    """

    places: NDArray[np.int64]
    scores: Numbers
    is_late: Flags
    is_linear: bool

    def weighed(self, log_factors: Numbers | float) -> Numbers:
        """Return the scores after their weights were multiplied."""
        if not self.is_linear:
            return self.scores + log_factors
        factors = np.exp(np.maximum(log_factors, _LEAST_LOG))
        return np.where(self.scores >= 0, self.scores * factors, self.scores / factors)

    def order(self) -> NDArray[np.int64]:
        """Return the places among the N, best first; of equal ones, the earlier is first."""
        if not self.is_late.any():
            return (-self.scores).argsort(kind="stable")
        return np.lexsort((-self.scores, self.is_late))


class ScoreRule(Protocol):
    """A rule that changes scores."""

    def scores(self, subject: Subject, scored: Scored) -> Numbers:
        """Return the scores (N,) after the rule."""


class BoostRule:
    """See `Boost`.

    Args:
        rule: of the file.
        column: its feature in the bundle.
    """

    def __init__(self, rule: Boost, column: Column) -> None:
        self._feature, self._add = rule.feature, rule.add
        self._log_factor = float(np.log(rule.factor)) if rule.factor is not None else 0.0
        self._wanted = frozenset(texts_of(list(rule.wanted)))
        codes = [column.names[text] for text in self._wanted if text in column.names]
        self._is_wanted: Flags = np.asarray(np.isin(column.codes, codes).any(axis=1))  # (I+1,)

    def scores(self, subject: Subject, scored: Scored) -> Numbers:
        """Return the scores (N,) after the rule."""
        is_wanted = self._is_wanted[subject.indices]
        for place, value in subject.sent(self._feature):
            is_wanted[place] = not self._wanted.isdisjoint(texts_of(value))
        changed = scored.scores + self._add if self._add is not None else scored.weighed(self._log_factor)
        return np.where(is_wanted[scored.places], changed, scored.scores)


class DiversityRule:
    """See `Diversity`.

    Args:
        rule: of the file.
        column: its feature in the bundle.
    """

    def __init__(self, rule: Diversity, column: Column) -> None:
        self._rule, self._column = rule, column

    def scores(self, subject: Subject, scored: Scored) -> Numbers:
        """Return the scores (N,) after the rule."""
        order = scored.order()
        repeats = np.empty(len(order), dtype=np.int64)
        repeats[order] = repeats_of(self._codes(subject)[scored.places[order]])
        return scored.weighed(self._log_weights(repeats))

    def _log_weights(self, repeats: NDArray[np.int64]) -> Numbers:
        """Return the logarithm of (1 - floor) decay^repeats + floor."""
        decay, floor = self._rule.decay, self._rule.floor
        if not floor:  # then decay is above 0, and its powers need not be numbers above 0
            return np.asarray(repeats * np.log(decay))
        return np.asarray(np.log((1 - floor) * decay**repeats + floor) * (repeats > 0))

    def _codes(self, subject: Subject) -> NDArray[np.int32]:
        codes = self._column.codes[subject.indices]
        sent = {place: texts_of(value) for place, value in subject.sent(self._rule.by)}
        if not sent:
            return codes
        wider = max(map(len, sent.values())) - codes.shape[1]
        codes = np.pad(codes, ((0, 0), (0, max(wider, 0))))
        known, own = self._column.names, dict[str, int]()
        for place, texts in sent.items():
            codes[place] = 0
            codes[place, : len(texts)] = [
                known.get(text) or own.setdefault(text, len(known) + len(own) + 1) for text in texts
            ]
        return codes


class AgeRule:
    """See `AgeLimit`.

    Args:
        rule: of the file.
        times: its feature in the bundle, (I+1,).
    """

    def __init__(self, rule: AgeLimit, times: Numbers) -> None:
        self._rule, self._scale = rule, 1000.0 if rule.unit == "s" else 1.0
        self._times_ms = times * self._scale

    def late(self, subject: Subject) -> Flags:
        """Return which candidates (C,) are older than the limit; one of unknown age is not."""
        times = self._times_ms[subject.indices]
        for place, value in subject.sent(self._rule.feature):
            times[place] = number_of(value) * self._scale
        return np.asarray(subject.now_ms - times > self._rule.limit_ms)


def repeats_of(codes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return how many rows (N, w) before each have one of its values: the most over its values, 0 for code 0."""
    flat = codes.ravel()
    order = flat.argsort(kind="stable")
    ordered = flat[order]
    numbers = np.arange(len(flat))
    is_first = np.ones(len(flat), dtype=np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    repeats = np.empty(len(flat), dtype=np.int64)
    repeats[order] = numbers - np.maximum.accumulate(np.where(is_first, numbers, 0))
    repeats[flat == 0] = 0
    return np.asarray(repeats.reshape(codes.shape).max(axis=1))
