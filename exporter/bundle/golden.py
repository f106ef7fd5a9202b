"""Golden rows: inputs with known scores, from which a service sees that its provider computes the same."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporter.parity.verify import TOLERANCE, Parity
from exporter.rows import RowMaker, Rows
from exporter.run.directory import Run

_GOLDEN_COUNTS: Final = (1, 3, 10, 40)
_GOLDEN_SEED: Final = 20_260
_MARGIN: Final = 20  # another provider may differ this many times more than this CPU
_RELATIVE: Final = 1e-5  # of the largest golden score: the rounding error of a long float32 sum
_MAX_TOLERANCE: Final = 1e-2


def golden_rows(run: Run) -> Rows:
    """Return the rows of golden.npz: empty, short and full histories of frequent items, with ragged candidates."""
    length, context = run.sequence.length, run.model.context_specs
    maker = RowMaker(run.sequence, len(run.items), run.user_count, run.popularity, _GOLDEN_SEED, context)
    lengths = [0, 0, 1, 2, length // 2, length - 1, length, length + 10]
    return maker.make(lengths, [_GOLDEN_COUNTS[row % len(_GOLDEN_COUNTS)] for row in range(len(lengths))])


def golden_tolerance(report: list[Parity], scores: NDArray[np.float32]) -> float:
    """Return how far a provider may be from the golden scores: measured parity with a margin for other arithmetic."""
    measured = max(one.scores for one in report)
    wanted = max(TOLERANCE, _MARGIN * measured, _RELATIVE * float(np.abs(scores).max()))
    return min(_MAX_TOLERANCE, wanted)
