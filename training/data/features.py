"""Item features as small integers: genres, year, title words, and other fields; 0 is unknown or padding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.datasets.interactions import ItemFacts

_MAX_WORDS: Final = 8  # of one title
_RARE: Final = 2  # a word or value of fewer items is not informative about others
_MANY: Final = 2_000  # a field with more values drops the rare ones
_WORD = re.compile(r"[^\W\d_]{2,}")
_FUNCTION_WORDS: Final = frozenset(
    ("the", "of", "and", "in", "to", "de", "la", "le", "an", "for", "with", "on", "part")
)


class Features(NamedTuple):
    """One field: codes (I+1, width) and the names of codes 1, 2, ..."""

    codes: NDArray[np.int64]
    names: tuple[str, ...]


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
        "title": _words([one.title for one in facts]),
    }
    for name in sorted(({name for one in facts for name in one.features} | known.keys()) - values.keys()):
        values[name] = _shared([list(dict.fromkeys(one.features.get(name, ()))) for one in facts])
    return {name: _coded(lists, known.get(name, ())) for name, lists in values.items() if any(lists) or name in known}


def _coded(lists: list[list[str]], known: Sequence[str]) -> Features:
    names = (*known, *sorted({value for values in lists for value in values}.difference(known)))
    code = {name: place for place, name in enumerate(names, start=1)}
    codes = np.zeros((len(lists) + 1, max([1, *map(len, lists)])), dtype=np.int64)
    for row, values in enumerate(lists, start=1):
        codes[row, : len(values)] = [code[value] for value in values]
    return Features(codes, names)


def _shared(lists: list[list[str]]) -> list[list[str]]:
    """Return the values of a field; without the rare ones if there are thousands."""
    items_of = Counter(value for values in lists for value in values)
    if len(items_of) <= _MANY:
        return lists
    return [[value for value in values if items_of[value] >= _RARE] for values in lists]


def _words(titles: list[str]) -> list[list[str]]:
    """Return the words of each title that other titles also have."""
    found = [list(dict.fromkeys(_WORD.findall(title.lower()))) for title in titles]
    titles_of = Counter(word for words in found for word in words)
    return [
        [word for word in words if titles_of[word] >= _RARE and word not in _FUNCTION_WORDS][:_MAX_WORDS]
        for words in found
    ]
