"""Known items by their indices, instead of their ids: nothing is hashed or copied again where an id is not wanted.

A request's own ids are 200 texts of 60 bytes. Without them a batch of 32 requests stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from contract.bundle.vocabulary import Vocabulary

MOST_LISTED: Final = 50_000
"""With a larger vocabulary the request's own ids are kept: the pieces of all items would take too much memory."""


class Listed(Sequence[str]):
    """Ids of a vocabulary, made when they are asked for.

    Args:
        vocabulary: of at most MOST_LISTED ids.
        indices: (N,) in the vocabulary, all > 0.
    """

    __slots__ = ("indices", "vocabulary")

    def __init__(self, vocabulary: Vocabulary, indices: NDArray[np.int64]) -> None:
        self.vocabulary, self.indices = vocabulary, indices

    def __len__(self) -> int:
        """Return how many ids there are."""
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return one id, or a list of some."""
        ids = self.vocabulary.ids
        if isinstance(place, slice):
            return [ids[index - 1] for index in self.indices[place].tolist()]
        return ids[int(self.indices[place]) - 1]

    def __iter__(self) -> Iterator[str]:
        """Return all ids, one after another."""
        return iter(self[:])

    def __eq__(self, other: object) -> bool:
        """Return whether the ids are those of another sequence."""
        return self[:] == list(other) if isinstance(other, list | tuple | Listed) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        """Return what a list of the ids would."""
        return repr(self[:])
