"""MovieLens-100k: `u.data` (tab; plain or .gz), `u.item` (pipe, latin-1) and `u.genre`, as GroupLens publishes them.

Every rating is an interaction with action `rate`; its value is the rating.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from contract.behaviours.grammar import MIN_TIME_MS, shown
from training.data.datasets.interactions import DataError, Interactions, ItemFacts, default_actions
from training.data.datasets.text import decode, digest_of, fail, fields, identifier, read_bytes, whole

NAME: Final = "ml-100k"
FILES: Final = ("u.data", "u.item", "u.genre")
RATING_COLUMNS: Final = ("user id", "item id", "rating", "timestamp")
_ITEM_COLUMNS: Final = ("item id", "title", "release date", "video release date", "URL")
_TITLE_YEAR = re.compile(r"\((\d{4})\)\s*$")
_DATE = re.compile(r"\d{1,2}-[A-Za-z]{3}-(\d{4})")
_MAX_SECONDS: Final = 4_102_444_800  # the year 2100


def load(folder: Path) -> Interactions:
    """Read the data set from its folder.

    Raises:
        DataError: a file is missing or malformed.
    """
    ratings = folder / "u.data.gz" if (folder / "u.data.gz").exists() else folder / "u.data"
    paths = {"u.data": ratings, "u.item": folder / "u.item", "u.genre": folder / "u.genre"}
    contents = {name: read_bytes(path) for name, path in paths.items()}
    genres = _genres(paths["u.genre"], decode(paths["u.genre"], contents["u.genre"], "latin-1"))
    catalogue = _items(paths["u.item"], decode(paths["u.item"], contents["u.item"], "latin-1"), genres)
    rows = _ratings(paths["u.data"], decode(paths["u.data"], contents["u.data"], "utf-8"), catalogue)
    values = np.array([row[2] for row in rows], dtype=np.int64)
    seconds = np.array([row[3] for row in rows], dtype=np.int64)
    return Interactions(
        name="MovieLens-100k",
        source=f"GroupLens files u.data, u.item, u.genre in {folder.name}",
        digest=digest_of(contents),
        users=[row[0] for row in rows],
        items=[row[1] for row in rows],
        times_ms=seconds * 1000,
        actions=default_actions(len(rows), "rate"),
        values=values * 10,
        plays_ms=np.zeros(len(rows), dtype=np.int64),
        catalogue=catalogue,
    )


def _ratings(path: Path, text: str, catalogue: dict[str, ItemFacts]) -> list[tuple[str, str, int, int]]:
    rows = []
    for line, (user, item, rating, timestamp) in fields(path, text, "\t", RATING_COLUMNS):
        if item not in catalogue:
            fail(path, line, "item id", f"{shown(item)} is not in u.item")
        rows.append(
            (
                identifier(path, line, "user id", user),
                item,
                whole(path, line, "rating", rating, 1, 5),
                whole(path, line, "timestamp", timestamp, MIN_TIME_MS // 1000, _MAX_SECONDS),
            )
        )
    if not rows:
        raise DataError(f"{path}: no ratings in it")
    return rows


def _genres(path: Path, text: str) -> tuple[str, ...]:
    names = [values[0] for _, values in fields(path, text, "|", ("genre", "index"))]
    if not names:
        raise DataError(f"{path}: no genres in it")
    return tuple(names)


def _items(path: Path, text: str, genres: tuple[str, ...]) -> dict[str, ItemFacts]:
    catalogue = {}
    for line, values in fields(path, text, "|", _ITEM_COLUMNS + genres):
        item, title, released = values[:3]
        flags = values[len(_ITEM_COLUMNS) :]
        for genre, flag in zip(genres, flags, strict=True):
            if flag not in {"0", "1"}:
                fail(path, line, genre, f"{shown(flag)} is not 0 or 1")
        own = tuple(genre for genre, flag in zip(genres, flags, strict=True) if flag == "1" and genre != "unknown")
        catalogue[identifier(path, line, "item id", item)] = ItemFacts(title, own, _year(title, released))
    return catalogue


def _year(title: str, released: str) -> int | None:
    """Return the film's year, from the title; the release date is that of the US release."""
    found = _DATE.search(released)
    return title_year(title) or (int(found.group(1)) if found else None)


def title_year(title: str) -> int | None:
    """Return the year in brackets at the end of a title."""
    found = _TITLE_YEAR.search(title)
    return int(found.group(1)) if found else None
