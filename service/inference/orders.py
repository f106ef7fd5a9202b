"""The order of each row's candidates by score, for a whole batch at once.

A score and the place of its candidate become one number, and the numbers of a row are sorted: equal scores keep the
order of their places, which a sort of only the scores would have to be stable for, at several times the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_PLACE_BITS: Final = 32
_PLACE: Final = (1 << _PLACE_BITS) - 1
_WITHOUT_SIGN: Final = np.int32(0x7FFFFFFF)
_PLACES: Final = np.arange(2_000)
_PLACES.flags.writeable = False


def orders(scores: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.int64]:
    """Return the places (M,) of each row's candidates in the row, best first; of equal scores, the earlier place first.

    Args:
        scores: (M,) of all rows in one flat array, all finite.
        counts: candidates of each row.
    """
    keys = _falling(scores).astype(np.int64)
    keys <<= _PLACE_BITS
    keys |= joined([places_of(count) for count in counts])
    stop = 0
    for count in counts:
        keys[stop : (stop := stop + count)].sort()
    keys &= _PLACE
    return keys


def places_of(count: int) -> NDArray[np.int64]:
    """Return the numbers from 0 up to a count; not to be written to."""
    return _PLACES[:count] if count <= len(_PLACES) else np.arange(count)


def joined(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the rows of a batch in one flat array; of a batch of one, the row itself."""
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _falling(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return whole numbers that rise as the scores fall, equal for equal scores.

    The bits of a float without its sign rise with its size; both zeros are 0.
    """
    bits = scores.view(np.int32)
    turns = ~(bits >> 31)  # -1 for positive scores: these numbers are negated
    falling: NDArray[np.int32] = ((bits & _WITHOUT_SIGN) ^ turns) - turns
    return falling
