"""Writes catalogue.json: facts about items by id, for people and for the rules after scoring (docs/rules.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.data.datasets.interactions import Described
from training.data.item_field import ItemField
from training.data.kept import Kept
from training.data.life import Life

FIRST_SEEN: Final = "first_seen"
_NEVER: Final = np.iinfo(np.int64).max
_TOLD: Final = frozenset({"title", "year", "genres"})  # a source has them as facts
_LEFT_OUT: Final = frozenset({"words", "embedding"})  # too long, and of no use to a rule


def write_catalogue(
    raw: Described,
    item_ids: list[str],
    path: Path,
    fields: Mapping[str, ItemField],
    born: NDArray[np.int64] | None,
) -> list[str]:
    """Write the facts item by item: one document would take as much memory as the interactions.

    Returns the names of the features among them.

    Args:
        raw: the source, with titles.
        item_ids: in the order of their indices.
        path: of the file.
        fields: features of items.
        born: as `first_seen` returns it; None if the data have no times.
    """
    told = {name: field for name, field in fields.items() if field.kind not in _LEFT_OUT and name not in _TOLD}
    with path.open("w", encoding="utf-8") as file:
        separator = '{"items": {'
        for row, item in enumerate(item_ids, start=1):
            entry = {**_facts(raw, item), **dict(_values(told, row))}
            if born is not None and born[row] < _NEVER:
                entry[FIRST_SEEN] = int(born[row])
            if entry:
                value = json.dumps(entry, ensure_ascii=False)
                file.write(f"{separator}{json.dumps(item, ensure_ascii=False)}: {value}")
                separator = ", "
        file.write('{"items": {}}\n' if separator != ", " else "}}\n")
    return [*told, *([FIRST_SEEN] if born is not None else [])]


def first_seen(kept: Kept, life: Life) -> NDArray[np.int64]:
    """Return the time (I+1,) of the first behaviour or impression of each item, in ms."""
    first = life.born.copy()
    for batch in kept.shown() if kept.shown is not None else ():
        np.minimum.at(first, batch["items"], batch["times_ms"])
    return first


def _facts(raw: Described, item: str) -> dict[str, Any]:  # Any: JSON
    facts = raw.catalogue.get(item)
    return {} if facts is None else {"title": facts.title or item, "year": facts.year, "genres": list(facts.genres)}


def _values(fields: Mapping[str, ItemField], row: int) -> Iterator[tuple[str, Any]]:  # Any: JSON
    """Yield the features of an item that have a value."""
    for name, field in fields.items():
        if field.numbers is not None and field.numbers.ndim == 1:
            number = float(field.numbers[row])
            if np.isfinite(number):
                yield name, int(number) if number.is_integer() else number
        elif field.features is not None:
            codes = field.features.codes[row]
            names = [field.features.names[code - 1] for code in codes.tolist() if code]
            if names:
                yield name, names[0] if len(codes) == 1 else names
