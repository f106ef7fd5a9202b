"""The frozen map from public ids to the integers a model was trained with.

Index 0 is never an id: it is padding for items and the unknown user for users.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.records import item_keys
from contract.bundle.key_search import HashedKeys, KeySearch, SortedKeys
from contract.bundle.packed_ids import PackedIds

PACK_FROM: Final = 100_000
"""As many ids are packed: from here on that is faster than a dictionary, whose entries are not in the CPU's cache."""

_NOT_UNIQUE: Final = "vocabulary: ids must be unique and not empty"


class Vocabulary:
    """Ids in index order; index of the first is 1.

    Raises:
        ValueError: an id is empty, repeated, or shares its 64-bit key with another.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._packed = PackedIds.of(ids) if len(ids) >= PACK_FROM else None
        self.ids: Sequence[str] = tuple(ids) if self._packed is None else self._packed
        self._index: dict[str, int] = {}
        if self._packed is None:
            self._index = {identifier: index for index, identifier in enumerate(ids, start=1)}
            if len(self._index) != len(ids) or "" in self._index:
                raise ValueError(_NOT_UNIQUE)
        keys = item_keys(ids)
        order = np.argsort(keys, kind="stable")
        if bool((np.diff(keys[order]) == 0).any()):
            raise ValueError(_NOT_UNIQUE if len(set(ids)) < len(ids) else "vocabulary: two ids share one 64-bit key")
        hashed = HashedKeys.of(keys) if len(ids) >= PACK_FROM else None
        self._keys: KeySearch = SortedKeys(keys, order) if hashed is None else hashed

    def __len__(self) -> int:
        """Return the number of ids, padding not counted."""
        return len(self.ids)

    def index(self, identifier: str) -> int:
        """Return the index of an id, or 0 if it is not known."""
        if self._packed is not None:
            return int(self._packed.indices([identifier])[0])
        return self._index.get(identifier, 0)

    def distinct_indices(self, identifiers: Sequence[str]) -> NDArray[np.int64] | None:
        """Return the indices of ids, shape (N,), or None if one is not known or repeated: one call for all of them."""
        if self._packed is not None:
            indices = self._packed.indices(identifiers)
            return indices if indices.all() and _are_distinct(indices) else None
        try:
            if len(identifiers) < 2:
                return np.array([self._index[identifier] for identifier in identifiers], dtype=np.int64)
            found: tuple[int, ...] = itemgetter(*identifiers)(self._index)
        except KeyError:
            return None
        indices = np.frombuffer(_packer(len(found))(*found), dtype=np.int64)  # a third of np.array's time
        return indices if _are_distinct(indices) else None

    def indices(self, identifiers: Sequence[str]) -> NDArray[np.int64]:
        """Return the indices of ids, 0 if one is not known; shape (N,)."""
        if self._packed is not None:
            return self._packed.indices(identifiers)
        get = self._index.get
        return np.array([get(identifier, 0) for identifier in identifiers], dtype=np.int64)

    def indices_of_keys(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the indices of 64-bit item keys, 0 if one is not known; one vectorised search, shape (N,)."""
        return self._keys.indices(keys)

    def write(self, path: Path) -> None:
        """Write the ids as JSON."""
        path.write_text(json.dumps({"ids": tuple(self.ids)}, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def parse(cls, content: bytes) -> Vocabulary:
        """Read a vocabulary from the bytes of its file.

        Raises:
            ValueError: not the JSON that `write` produces.
        """
        try:
            document = json.loads(content)
        except RecursionError as error:  # a bundle may come from anywhere
            raise ValueError("vocabulary: nested too deeply") from error
        ids = document.get("ids") if isinstance(document, dict) else None
        if not isinstance(ids, list) or not set(map(type, ids)) <= {str}:
            raise ValueError("vocabulary: expected {'ids': [strings]}")
        return cls(ids)


@lru_cache(maxsize=4_096)
def _packer(count: int) -> Callable[..., bytes]:
    return struct.Struct(f"={count}q").pack


def _are_distinct(indices: NDArray[np.int64]) -> bool:
    """Return whether no index is repeated; sorting numbers takes half the time of a set of ids."""
    ordered = indices.copy()
    ordered.sort()
    return bool((ordered[1:] != ordered[:-1]).all())
