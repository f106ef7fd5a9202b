"""Amazon reviews, 5-core: Beauty, Toys and Games (2014), Musical Instruments (2018); a review is a valueless `rate`.

| File | Read |
| --- | --- |
| interactions.csv.gz | user_id, item_id, pos (the place in the user's sequence, from 0), timestamp (seconds) |
| items.csv.gz | item_id, category (0 = none), attributes separated by spaces |

The order inside a user is that of pos: a timestamp is a day, and many reviews share one. A review without a time gets
one that keeps the order: a review at the end of a sequence the user's last known time plus a millisecond each (the
last two of every user of Toys), every review of Instruments `pos` days after the beginning of the year 2000.
`has_times` is false for such a set.
`also_bought` and `also_viewed` were collected after the last review, so they reveal the future: they are not read.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.grammar import MIN_TIME_MS
from training.data.datasets.interactions import Interactions, ItemFacts, default_actions
from training.data.datasets.table import MAX_SECONDS, Table, read_table
from training.data.datasets.text import digest_of, read_bytes
from training.data.times import DAY_MS

BEAUTY: Final = "amazon-beauty"
TOYS: Final = "amazon-toys-and-games"
INSTRUMENTS: Final = "amazon-musical-instruments"
REVIEWS: Final = "interactions.csv.gz"
ITEMS: Final = "items.csv.gz"
_ITEM_COLUMNS: Final = ("item_id", "category", "attributes")
_YEAR_2000_MS: Final = 946_684_800_000
_MAX_DAYS: Final = 9_000  # after the year 2000, and still in the past
_UNKNOWN: Final = -1
_MAX_PLACE: Final = 10**6


def _load(folder: Path, title: str, described: bool) -> Interactions:
    """Read a data set from its folder; a described one has timestamps and a file of items.

    Raises:
        DataError: a file is missing or malformed.
    """
    names = (REVIEWS, ITEMS) if described else (REVIEWS,)
    contents = {name: read_bytes(folder / name) for name in names}
    columns = ("user_id", "item_id", "pos", *(("timestamp",) if described else ()))
    reviews = read_table(folder / REVIEWS, contents[REVIEWS], columns)
    catalogue = _items(read_table(folder / ITEMS, contents[ITEMS], _ITEM_COLUMNS)) if described else {}
    users = reviews.ids("user_id")
    items = reviews.known("item_id", catalogue, ITEMS) if described else reviews.ids("item_id")
    order = _order(reviews, users)
    times, has_times = _times(reviews, users, order) if described else (_made_up(reviews), False)
    return Interactions(
        name=title,
        source=f"Amazon reviews, {' and '.join(names)} in {folder.name}",
        digest=digest_of(contents),
        users=[users[row] for row in order.tolist()],
        items=[items[row] for row in order.tolist()],
        times_ms=times[order],
        actions=default_actions(len(reviews), "rate"),
        values=np.zeros(len(reviews), dtype=np.int64),
        plays_ms=np.zeros(len(reviews), dtype=np.int64),
        catalogue=catalogue,
        has_times=has_times,
    )


beauty = partial(_load, title="Amazon Beauty", described=True)
toys = partial(_load, title="Amazon Toys and Games", described=True)
instruments = partial(_load, title="Amazon Musical Instruments", described=False)


def _made_up(reviews: Table) -> NDArray[np.int64]:
    return _YEAR_2000_MS + DAY_MS * reviews.whole("pos", 0, _MAX_DAYS)


def _places(reviews: Table) -> NDArray[np.int64]:
    return reviews.whole("pos", 0, _MAX_PLACE)


def _order(reviews: Table, users: list[str]) -> NDArray[np.int64]:
    """Return the rows by user, as they first appear, and place."""
    codes = {user: code for code, user in enumerate(dict.fromkeys(users))}
    by_user = np.array([codes[user] for user in users], dtype=np.int64)
    return np.lexsort((_places(reviews), by_user))


def _times(reviews: Table, users: list[str], order: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
    """Return the time of every row in milliseconds, never falling inside a user, and whether all are known."""
    times = reviews.whole("timestamp", MIN_TIME_MS // 1000, MAX_SECONDS, blank=_UNKNOWN) * 1000
    known = times >= 0
    before = ("", 0)
    for row in order.tolist():
        user = users[row]
        last = before[1] if before[0] == user else _UNKNOWN
        if not known[row]:
            if last < 0:
                reviews.fail(row, "timestamp", "empty, and no earlier review of the user has one")
            times[row] = last + 1
        elif times[row] < last:
            reviews.fail(row, "timestamp", f"earlier than that of the place before it in the sequence of user {user}")
        before = (user, int(times[row]))
    return times, bool(known.all())


def _items(table: Table) -> dict[str, ItemFacts]:
    catalogue = {}
    table.whole("category", 0, 10**6, blank=0)
    for item, category, attributes in zip(
        table.ids("item_id"), table.text("category"), table.text("attributes"), strict=True
    ):
        categories = () if category in {"", "0"} else (category,)
        catalogue[item] = ItemFacts(features={"category": categories, "attributes": tuple(attributes.split())})
    return catalogue
