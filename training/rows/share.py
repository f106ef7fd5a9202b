"""The rows of a batch that one of several processes learns: all of them if it is the only one."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np


class Share(NamedTuple):
    """The place of this process among those that train together.

    Attributes:
        rank: from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def of(self, rows: int) -> slice:
        """Return this process's rows of a batch: near-equal shares, none of one row, and no row is left out.

        One row has no variance for batch normalisation, so the last processes get none of a very small batch.
        """
        used = min(self.size, max(rows // 2, 1))
        rank = min(self.rank, used)
        return slice(rank * rows // used, min(rank + 1, used) * rows // used)

    def own(self, rng: np.random.Generator) -> np.random.Generator:
        """Return the generator of this process's own draws: the given one for the first, a stream apart for others."""
        return rng if self.rank == 0 else rng.spawn(self.size)[self.rank]


WHOLE: Final = Share()
"""The share of a single process: everything."""
