"""The articles and readers of the generated news log.

Symbols: A articles, U users, N pairs of both, d width of an embedding, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

CATEGORIES: Final = (
    "politics", "economy", "sport", "culture", "science", "health", "travel", "food", "weather", "local", "games",
    "law",
)  # fmt: skip
WIDTH: Final = 8
WORDS_PER_CATEGORY: Final = 40
_LIFE_DAYS: Final = 1.5
_FADES_DAYS: Final = 0.45  # after this time the feed shows an article 1/e as often
_AUTHORS_PER_CATEGORY: Final = 6

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Articles:
    """The facts about each article that the newsroom has, in the order of publication.

    Attributes:
        categories: (A,) places in CATEGORIES.
        authors: (A,) numbers; an author writes in one category.
        born_days: (A,) days since the log's start; some articles are older than the log.
        life_days: (A,) how long the feed shows it.
        appeal: (A,) standard normal: some articles are clicked more by everyone.
        words: (A,) length.
        reading_s: (A,) seconds that a whole reading takes.
        titles: (A, 4) numbers of words; word w belongs to category w // WORDS_PER_CATEGORY.
        embeddings: (A, d) of length 1, close to the others of its category.
    """

    categories: Ints
    authors: Ints
    born_days: Floats
    life_days: Floats
    appeal: Floats
    words: Ints
    reading_s: Ints
    titles: Ints
    embeddings: Floats

    def exposure(self, day: float) -> Floats:
        """Return how often the feed shows each article at a time, (A,), not normalised; 0 if it does not."""
        age = day - self.born_days
        weights = np.exp(0.6 * self.appeal - np.maximum(age, 0.0) / _FADES_DAYS)
        return np.where((age >= 0) & (age < self.life_days), weights, 0.0)


@dataclass(frozen=True)
class Readers:
    """The users.

    Attributes:
        taste: (U, d) of length 1.
        subjects: (U, S) the categories of a reader's sessions, the favourite ones repeated.
        activity: (U,) share of all sessions.
        centres: (C, d) of the categories.
    """

    taste: Floats
    subjects: Ints
    activity: Floats
    centres: Floats

    def match(self, articles: Articles, users: Ints, places: Ints, subjects: Ints) -> Floats:
        """Return how well an article fits the reader and the session, (N,), from -1 to 1."""
        wanted = _unit(self.taste[users] + 0.7 * self.centres[subjects])
        return np.einsum("nd,nd->n", wanted, articles.embeddings[places])


def articles_of(rng: np.random.Generator, count: int, days: int) -> Articles:
    """Return `count` articles that are born from 1.5 days before the log to its end."""
    categories = rng.integers(len(CATEGORIES), size=count)
    own = categories[:, None] * WORDS_PER_CATEGORY + rng.integers(WORDS_PER_CATEGORY, size=(count, 4))
    any_word = rng.integers(len(CATEGORIES) * WORDS_PER_CATEGORY, size=(count, 4))
    words = np.clip(rng.lognormal(6.2, 0.5, size=count), 80, 4_000).astype(np.int64)
    return Articles(
        categories=categories,
        authors=categories * _AUTHORS_PER_CATEGORY + rng.integers(_AUTHORS_PER_CATEGORY, size=count),
        born_days=np.sort(rng.uniform(-_LIFE_DAYS, days, size=count)),
        life_days=_LIFE_DAYS * rng.lognormal(0.0, 0.25, size=count),
        appeal=rng.standard_normal(count),
        words=words,
        reading_s=words // 4,
        titles=np.where(rng.random((count, 4)) < 0.7, own, any_word),
        embeddings=_unit(_centres()[categories] + 0.35 * rng.standard_normal((count, WIDTH))),
    )


def readers_of(rng: np.random.Generator, count: int) -> Readers:
    """Return `count` readers with two or three categories each; a few of them read much more than the others."""
    centres = _centres()
    first, second, third = (rng.integers(len(CATEGORIES), size=count) for _ in range(3))
    taste = _unit(centres[first] + 0.6 * centres[second] + 0.25 * rng.standard_normal((count, WIDTH)))
    activity = rng.lognormal(0.0, 0.8, size=count)
    return Readers(taste, np.stack((first, first, second, third), axis=1), activity / activity.sum(), centres)


def _centres() -> Floats:
    """Return the same centres for every log, so that two logs can be compared."""
    return _unit(np.random.default_rng(12).standard_normal((len(CATEGORIES), WIDTH)))


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
