"""Item features as rules read them: columns of a bundle's known items, and the features that callers sent.

Symbols: C candidates, I items of the vocabulary, w the most values of one item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.bundle.item_features import MAX_VALUES
from service.bundles.bundle import Bundle

_LARGEST: Final = 2**63


class Subject(NamedTuple):
    """The candidates of one ranking.

    Attributes:
        indices: (C,) in the vocabulary, 0 of others.
        features: those that callers sent or stored, by place.
        now_ms: the time of the request.
    """

    indices: NDArray[np.int64]
    features: Mapping[int, Mapping[str, object]]
    now_ms: int

    def sent(self, feature: str) -> Iterator[tuple[int, object]]:
        """Yield place and value of the candidates whose feature a caller sent."""
        for place, features in self.features.items():
            if feature in features:
                yield place, features[feature]


class Column(NamedTuple):
    """One feature of a bundle's items.

    Attributes:
        codes: (I+1, w), 0 for none; row 0 is of items that are not in the vocabulary.
        names: the codes by value.
    """

    codes: NDArray[np.int32]
    names: Mapping[str, int]


def texts_of(value: object) -> list[str]:
    """Return the values of a feature as text, each once; a number as JSON writes it."""
    listed = value if isinstance(value, list | tuple) else (value,)
    return list(dict.fromkeys(text for one in listed if (text := _text(one))))[:MAX_VALUES]


def number_of(value: object) -> float:
    """Return a feature as a number; NaN if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        return np.nan
    return float(value)


def features_of(bundle: Bundle) -> frozenset[str]:
    """Return the features that the bundle has of at least one item."""
    found: set[str] = set()
    for entry in bundle.catalogue.values():
        if not entry.keys() <= found:
            found |= {name for name, value in entry.items() if value not in (None, [], "")}
    return frozenset(found)


def column_of(bundle: Bundle, feature: str) -> Column:
    """Return a feature of the bundle's items; empty if it has none."""
    names: dict[str, int] = {}
    rows = [[names.setdefault(text, len(names) + 1) for text in texts_of(value)] for value in _values(bundle, feature)]
    codes = np.zeros((len(rows) + 1, max([1, *map(len, rows)])), dtype=np.int32)
    for place, row in enumerate(rows, start=1):
        codes[place, : len(row)] = row
    return Column(codes, names)


def numbers_of(bundle: Bundle, feature: str) -> NDArray[np.float64]:
    """Return a feature of the bundle's items as numbers (I+1,), NaN for none."""
    return np.array([np.nan, *map(number_of, _values(bundle, feature))], dtype=np.float64)


def _values(bundle: Bundle, feature: str) -> Iterator[Any]:  # Any: JSON
    nothing: Mapping[str, Any] = {}
    return (bundle.catalogue.get(item_id, nothing).get(feature) for item_id in bundle.items.ids)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    number = number_of(value)
    if np.isnan(number):
        return ""
    return str(int(number)) if number.is_integer() else repr(number)
