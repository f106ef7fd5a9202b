"""Item features as small integers: genres, year, title words, and other fields; 0 is unknown or padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from training.data.datasets.interactions import ItemFacts
from training.data.item_field import Features
from training.data.text_words import words_of

_MAX_WORDS: Final = 8  # of one title
_RARE: Final = 2  # a word or value of fewer items is not informative about others
MANY: Final = 2_000  # a field with more values drops the rare ones


def item_features(
    item_ids: Sequence[str], catalogue: Mapping[str, ItemFacts], known: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Features]:
    """Return the fields with values in the catalogue; row k+1 is the k-th item.

    Args:
        item_ids: in the order of their indices.
        catalogue: facts by item.
        known: fields of an earlier preparation, with the names of their codes, which keep their meaning.
    """
    known = known or {}
    facts = [catalogue.get(item, ItemFacts()) for item in item_ids]
    values = {
        "genres": [list(one.genres) for one in facts],
        "year": [[str(one.year)] if one.year is not None else [] for one in facts],
        "title": _words([one.title for one in facts], known.get("title", ())),
    }
    for name in sorted(({name for one in facts for name in one.features} | known.keys()) - values.keys()):
        lists = [list(dict.fromkeys(one.features.get(name, ()))) for one in facts]
        values[name] = shared(lists, known.get(name, ()))
    return {name: coded(lists, known.get(name, ())) for name, lists in values.items() if any(lists) or name in known}


def coded(lists: Sequence[Sequence[str]], known: Sequence[str]) -> Features:
    """Return the codes of each item's values: the known names come first, then the others by name."""
    names = (*known, *sorted({value for values in lists for value in values}.difference(known)))
    code = {name: place for place, name in enumerate(names, start=1)}
    codes = np.zeros((len(lists) + 1, max([1, *map(len, lists)])), dtype=np.int64)
    for row, values in enumerate(lists, start=1):
        codes[row, : len(values)] = [code[value] for value in values]
    return Features(codes, names)


def shared(lists: Sequence[Sequence[str]], known: Sequence[str], most: int = MANY) -> list[list[str]]:
    """Return the values of each item; without those of a single item if there are more than `most`. Known ones stay."""
    items_of = Counter(value for values in lists for value in values)
    if len(items_of) <= most:
        return [list(values) for values in lists]
    stay = {value for value, count in items_of.items() if count >= _RARE}.union(known)
    return [[value for value in values if value in stay] for values in lists]


def _words(titles: list[str], known: Sequence[str]) -> list[list[str]]:
    """Return the words of each title that other titles also have."""
    return [words[:_MAX_WORDS] for words in shared([words_of(title) for title in titles], known, most=0)]
