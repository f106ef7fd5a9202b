"""A generated log of a news feed: impressions, clicks, likes and shares of articles that live about a day and a half.

| A personal model can learn | Because a click depends on |
| --- | --- |
| interests | the match of an article's embedding with the reader's taste and with the subject of the session |
| fresh articles from their features | category and embedding: an article without clicks has both |
| age | freshness; the feed shows old articles less often, so popularity decays |

`python -m tests.support.news_log FOLDER` writes the files; see `tests/support/news_log_files.py`.

Symbols: R rows of the log, A articles, U users, V impressions, d width of an embedding, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.support.news_world import CATEGORIES, Articles, Readers, articles_of, readers_of

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
START_MS: Final = 1_740_960_000_000  # 2025-03-03T00:00:00Z, a Monday
EVENTS: Final = ("view", "click", "like", "share")
DEVICES: Final = ("ios", "android", "web")
SMALL: Final = {"events": 10_000, "users": 300, "articles": 400, "days": 5}
"""Arguments for quick tests."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SESSION: Final = 8  # impressions, on average
_BINS_PER_DAY: Final = 24  # the feed's choice changes every hour
_HOURS: Final = np.array([2, 1, 1, 1, 1, 2, 5, 8, 8, 6, 5, 5, 7, 6, 5, 5, 5, 6, 7, 8, 9, 9, 7, 4]) / 123
_OWN_CATEGORY: Final = 0.45  # share of impressions from the subject of the session; the others are from all articles
_LIKES, _SHARES = 0.08, 0.03  # of the clicks


@dataclass(frozen=True)
class NewsLog:
    """The log in time order, and what it was generated from.

    Attributes:
        users: (R,) places in `readers`.
        articles: (R,) places in `catalogue`.
        events: (R,) places in EVENTS.
        times_ms: (R,) milliseconds since the epoch.
        dwell_s: (R,) seconds of reading; 0 except for clicks.
        devices: (R,) places in DEVICES.
    """

    users: Ints
    articles: Ints
    events: Ints
    times_ms: Ints
    dwell_s: Ints
    devices: Ints
    readers: Readers
    catalogue: Articles

    def __len__(self) -> int:
        """Return R."""
        return len(self.users)

    def between(self, first_day: float, end_day: float) -> NewsLog:
        """Return the rows from one day to another, counted from 0; `end_day` itself is not included."""
        days = (self.times_ms - START_MS) / DAY_MS
        chosen = (days >= first_day) & (days < end_day)
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return NewsLog(**columns, readers=self.readers, catalogue=self.catalogue)


_COLUMNS: Final = ("users", "articles", "events", "times_ms", "dwell_s", "devices")


def news_log(events: int = 200_000, users: int = 4_000, articles: int = 5_000, days: int = 8, seed: int = 7) -> NewsLog:
    """Generate exactly `events` rows; the same arguments give the same log."""
    rng = np.random.default_rng(seed)
    catalogue, readers = articles_of(rng, articles, days), readers_of(rng, users)
    shown = _impressions(rng, readers, catalogue, events * 6 // 5, days)
    rows = _rows(rng, shown, readers, catalogue)
    if len(rows["users"]) < events:
        raise ValueError(f"{articles} articles are too few for {events} events of {users} users")
    order = np.argsort(rows["times_ms"][:events], kind="stable")  # sessions were in random order
    return NewsLog(**{name: rows[name][order] for name in _COLUMNS}, readers=readers, catalogue=catalogue)


def _impressions(
    rng: np.random.Generator, readers: Readers, catalogue: Articles, count: int, days: int
) -> dict[str, Any]:
    """Return at most `count` impressions by session; no user is shown an article twice."""
    sizes = 1 + rng.poisson(_SESSION - 1, size=count // _SESSION + 1)
    sessions = len(sizes)
    users = rng.choice(len(readers.taste), size=sessions, p=readers.activity)
    hours = rng.integers(days, size=sessions) * 24 + rng.choice(24, size=sessions, p=_HOURS)
    begins = hours * HOUR_MS + rng.integers(HOUR_MS, size=sessions)
    subject = readers.subjects[users, rng.integers(readers.subjects.shape[1], size=sessions)]
    of = np.repeat(np.arange(sessions), sizes)
    steps = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    times = begins[of] + steps * 9_000 + rng.integers(8_000, size=len(of))
    wanted = np.where(rng.random(len(of)) < _OWN_CATEGORY, subject[of], -1)
    articles = _feed(rng, catalogue, hours[of] + 0.5, wanted)
    kept = _first_shown(users[of], articles, times)
    return {
        "users": users[of][kept], "articles": articles[kept], "times_ms": START_MS + times[kept],
        "subjects": subject[of][kept], "devices": rng.integers(len(DEVICES), size=sessions)[of][kept],
    }  # fmt: skip


def _feed(rng: np.random.Generator, catalogue: Articles, hours: Floats, wanted: Ints) -> Ints:
    """Return the article of each impression: from the wanted category, or from all if that is -1 or has none.

    The chance of an article falls with its age and rises with its appeal.
    """
    by_category = np.argsort(catalogue.categories, kind="stable")
    edges = np.searchsorted(catalogue.categories[by_category], np.arange(len(CATEGORIES) + 1))
    chosen = np.zeros(len(hours), dtype=np.int64)
    order = np.argsort(hours, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(hours[order])) + 1):
        weights = catalogue.exposure(hours[places[0]] / _BINS_PER_DAY)[by_category]
        sums = np.concatenate(([0.0], np.cumsum(weights)))
        category = wanted[places]
        low = np.where(category < 0, 0.0, sums[edges[category]])
        high = np.where(category < 0, sums[-1], sums[edges[category + 1]])
        low, high = np.where(high > low, low, 0.0), np.where(high > low, high, sums[-1])
        drawn = low + rng.random(len(places)) * (high - low)
        chosen[places] = by_category[np.minimum(np.searchsorted(sums, drawn, side="right") - 1, len(weights) - 1)]
    return chosen


def _first_shown(users: Ints, articles: Ints, times: Ints) -> NDArray[np.bool_]:
    order = np.argsort(times, kind="stable")
    _, first = np.unique((users * (articles.max() + 1) + articles)[order], return_index=True)
    kept = np.zeros(len(users), dtype=np.bool_)
    kept[order[first]] = True
    return kept


def _rows(rng: np.random.Generator, shown: dict[str, Any], readers: Readers, catalogue: Articles) -> dict[str, Ints]:
    """Return the rows of every impression: a view, and perhaps a click, a like, a share."""
    users, articles, count = shown["users"], shown["articles"], len(shown["users"])
    match = readers.match(catalogue, users, articles, shown["subjects"])
    age = np.maximum((shown["times_ms"] - START_MS) / DAY_MS - catalogue.born_days[articles], 0.0)
    clicked = rng.random(count) < 1 / (1 + np.exp(2.6 - 4.0 * match - 0.5 * catalogue.appeal[articles] + 0.7 * age))
    share_read = np.clip(rng.lognormal(0.9 * match - 0.8, 0.6), 0.02, 1.5)
    dwell = np.maximum(np.rint(share_read * catalogue.reading_s[articles]), 1).astype(np.int64)
    happened = np.stack(
        (np.ones(count, dtype=np.bool_), clicked, clicked & (rng.random(count) < _LIKES * (0.5 + share_read)),
         clicked & (rng.random(count) < _SHARES)), axis=1,
    )  # fmt: skip
    of, events = np.nonzero(happened)
    to_click = rng.integers(1_000, 6_000, size=count)
    later = np.stack((0 * to_click, to_click, to_click + dwell * 1000, to_click + dwell * 1000 + 2_000), axis=1)
    return {
        "users": users[of], "articles": articles[of], "events": events,
        "times_ms": shown["times_ms"][of] + later[of, events],
        "dwell_s": np.where(events == EVENTS.index("click"), dwell[of], 0), "devices": shown["devices"][of],
    }  # fmt: skip


if __name__ == "__main__":
    from tests.support.news_log_files import main

    main()
