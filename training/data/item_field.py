"""One feature of all items, as prepared data contain it.

Symbols: I items, d width of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Features(NamedTuple):
    """Codes (I+1, width), and the names of codes 1, 2, ..."""

    codes: NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Names:
    """The names and edges of a field in an earlier preparation.

    Attributes:
        names: of codes 1, 2, ...
        edges: of the buckets of a number: code k is below edges[k - 1].
    """

    names: Sequence[str] = ()
    edges: Sequence[float] = ()


@dataclass(frozen=True)
class ItemField:
    """One field of all items; row k+1 is the k-th item, row 0 padding.

    Attributes:
        features: codes and names; None for a field that has only numbers.
        numbers: float32 (I+1,) with NaN = unknown, or (I+1, d) with zeros = unknown; None for a field without numbers.
        edges: as in `Names`.
        kind: how a raw value is read, as a mapping names it; "" where a source does not tell.
    """

    features: Features | None = None
    numbers: NDArray[np.float32] | None = None
    edges: tuple[float, ...] = ()
    kind: str = ""


NOTHING: Final = Names()


class FieldSource(Protocol):
    """One feature as a source knows it."""

    def code(self, item_ids: Sequence[str], known: Names = NOTHING) -> ItemField:
        """Return the feature of these items; the names and edges of an earlier preparation stay."""
        ...
