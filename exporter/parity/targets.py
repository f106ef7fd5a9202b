"""The promise of a model with several targets: its score is the weighted sum of the targets' explanations."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from contract.experiments.target_weights import MAX_TARGETS, TARGET_PATTERN
from exporter.errors import ExportError
from exporter.graphs.modules import SCORES
from exporter.graphs.trace import Traced
from exporter.parity.verify import TOLERANCE, torch_outputs
from exporter.rows import Rows
from models.base import SequentialRecommender

_LARGEST: Final = 1e6


def check_targets(model: SequentialRecommender, traced: Traced, batch: Rows) -> None:
    """Check the targets that a service may weigh in another way.

    Raises:
        ExportError: a name or weight is not one of a bundle, or the scores are not the weighted sum.
    """
    weights = model.target_weights
    if not weights:
        return
    for name, weight in weights.items():
        if not re.fullmatch(TARGET_PATTERN, name) or name not in traced.names.score_explanation:
            raise ExportError(f"target {name[:64]!r}: is not a name of an explanation of score: {TARGET_PATTERN}")
        if not abs(weight) <= _LARGEST:
            raise ExportError(f"target {name}: weight {weight} is not a number up to {_LARGEST:,.0f}")
    if len(weights) > MAX_TARGETS:
        raise ExportError(f"{len(weights)} targets: a bundle may have {MAX_TARGETS}")
    found = torch_outputs(model, traced, batch)
    expected = sum(weight * found[name].astype(np.float64) for name, weight in weights.items())
    difference = float(np.abs(found[SCORES] - expected).max(initial=0.0))
    if difference > TOLERANCE * max(1.0, *map(abs, weights.values())):
        raise ExportError(f"targets: the scores differ by {difference:.2g} from the weighted sum of the targets")
