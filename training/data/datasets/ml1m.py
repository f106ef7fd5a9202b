"""MovieLens-1M: `movies.dat` (`::`, latin-1) and the ratings, as `ratings.csv` (also .gz) or GroupLens's `ratings.dat`.

| File | Read |
| --- | --- |
| ratings.csv | user_id, movie_id, rating, timestamp (seconds) |
| ratings.dat | the same, separated by `::`, without a header |
| movies.dat | id, title (year), genres separated by `|` |

Every rating is an interaction with action `rate`; its value is the rating. A `ratings.csv` that was assembled from
parts has the precision of each time (`ts_quality`, `ts_lo`, `ts_hi`): only ratings of 1 to 3 have inexact
times, so those columns reveal the rating and are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from contract.behaviours.grammar import MIN_TIME_MS
from training.data.datasets.interactions import DataError, Interactions, ItemFacts, default_actions
from training.data.datasets.ml100k import title_year
from training.data.datasets.table import MAX_SECONDS, Table, read_table
from training.data.datasets.text import decode, digest_of, fields, identifier, read_bytes

NAME: Final = "ml-1m"
MOVIES: Final = "movies.dat"
FILES: Final = (MOVIES, "ratings.csv.gz or ratings.dat")
_RATINGS: Final = ("ratings.csv.gz", "ratings.csv", "ratings.dat")
_COLUMNS: Final = ("user_id", "movie_id", "rating", "timestamp")


def load(folder: Path) -> Interactions:
    """Read the data set from its folder.

    Raises:
        DataError: a file is missing or malformed.
    """
    ratings_path = next((folder / name for name in _RATINGS if (folder / name).exists()), folder / _RATINGS[-1])
    contents = {MOVIES: read_bytes(folder / MOVIES), ratings_path.name: read_bytes(ratings_path)}
    catalogue = _movies(folder / MOVIES, contents[MOVIES])
    ratings = _ratings(ratings_path, contents[ratings_path.name])
    return Interactions(
        name="MovieLens-1M",
        source=f"GroupLens files {MOVIES} and {ratings_path.name} in {folder.name}",
        digest=digest_of(contents),
        users=ratings.ids("user_id"),
        items=ratings.known("movie_id", catalogue, MOVIES),
        times_ms=ratings.whole("timestamp", MIN_TIME_MS // 1000, MAX_SECONDS) * 1000,
        actions=default_actions(len(ratings), "rate"),
        values=ratings.whole("rating", 1, 5) * 10,
        plays_ms=np.zeros(len(ratings), dtype=np.int64),
        catalogue=catalogue,
    )


def _ratings(path: Path, content: bytes) -> Table:
    if path.suffix != ".dat":
        return read_table(path, content, _COLUMNS)
    rows = list(fields(path, decode(path, content, "utf-8"), "::", _COLUMNS))
    if not rows:
        raise DataError(f"{path}: no rows in it")
    columns = zip(*(cells for _, cells in rows), strict=True)
    cells = {name: list(column) for name, column in zip(_COLUMNS, columns, strict=True)}
    return Table(path, cells, [line for line, _ in rows])


def _movies(path: Path, content: bytes) -> dict[str, ItemFacts]:
    catalogue = {}
    for line, (movie, title, genres) in fields(path, decode(path, content, "latin-1"), "::", ("id", "title", "genres")):
        catalogue[identifier(path, line, "id", movie)] = ItemFacts(
            title, tuple(filter(None, genres.split("|"))), title_year(title)
        )
    return catalogue
