"""The context of each training row: the hour and the gap at the time of its target, and attributes of its event.

The codes are those of the service (contract/bundle/context.py). Symbols: N rows, F inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.bundle.context import (
    GAP,
    HOUR,
    MAX_OFFSET,
    MIN_OFFSET,
    OFFSET,
    RESERVED,
    ContextSpec,
    gap_codes,
    hour_codes,
)
from training.data.prepare import Prepared
from training.recipe import ContextRecipe
from training.rows.split import Rows, SplitError

Codes = NDArray[np.int64]


def context_specs(prepared: Prepared, recipe: ContextRecipe) -> tuple[ContextSpec, ...]:
    """Return the inputs of a recipe for a data set.

    Raises:
        SplitError: the data have no times, or no such attribute.
    """
    if (recipe.hour or recipe.gap) and not prepared.has_times:
        raise SplitError(f"{prepared.directory.name} has no times: context.hour and context.gap need them")
    found: list[ContextSpec] = []
    if recipe.hour:
        found.append(ContextSpec(kind="hour", name=HOUR, offset_minutes=recipe.offset_minutes))
    if recipe.gap:
        found.append(ContextSpec(kind="gap", name=GAP))
    attributes = [ContextSpec(kind="category", name=name, values=_values(prepared, name)) for name in recipe.attributes]
    return (*found, *attributes)


def _values(prepared: Prepared, name: str) -> tuple[str, ...]:
    if name in RESERVED or name not in prepared.attributes:
        raise SplitError(
            f"{prepared.directory.name}: context.attributes: the log has no attribute {name!r} of its events; there "
            f"are {', '.join(prepared.attributes) or 'none'} (a mapping declares them: context)"
        )
    return prepared.attributes[name]


def context_codes(prepared: Prepared, specs: Sequence[ContextSpec], rows: Rows) -> Codes:
    """Return the codes of rows (N, F)."""
    codes = np.zeros((len(rows.items), len(specs)), dtype=np.int64)
    for place, spec in enumerate(specs):
        if spec.kind == "hour":
            codes[:, place] = hour_codes(rows.times_ms, _offsets(prepared, rows, spec.offset_minutes))
        elif spec.kind == "gap":
            codes[:, place] = _gaps(prepared, rows)
        else:
            codes[:, place] = _attribute(prepared, rows, spec)
    return codes


def _gaps(prepared: Prepared, rows: Rows) -> Codes:
    has_any = rows.stops > rows.starts
    times = prepared.columns["times_ms"]
    newest = times[np.where(has_any, rows.stops - 1, 0)] if len(times) else np.zeros_like(rows.stops)
    return gap_codes(rows.times_ms, newest, has_any)


def _attribute(prepared: Prepared, rows: Rows, spec: ContextSpec) -> Codes:
    """Return the codes of a category, in the numbering of the model, which may be older than the data."""
    assert rows.attributes is not None
    codes = rows.attributes[:, list(prepared.attributes).index(spec.name)]
    return np.where(codes < spec.cardinality, codes, 0)


def _offsets(prepared: Prepared, rows: Rows, usual: int) -> Codes | int:
    """Return the minutes between local time and UTC of each row, if the log has them."""
    if OFFSET not in prepared.attributes or rows.attributes is None:
        return usual
    minutes = [usual, *(_minutes(prepared, text) for text in prepared.attributes[OFFSET])]
    codes = rows.attributes[:, list(prepared.attributes).index(OFFSET)]
    return np.array(minutes, dtype=np.int64)[codes]


def _minutes(prepared: Prepared, text: str) -> int:
    try:
        minutes = int(text)
    except ValueError:
        minutes = MAX_OFFSET + 1
    if not MIN_OFFSET <= minutes <= MAX_OFFSET:
        raise SplitError(
            f"{prepared.directory.name}: {OFFSET} {text[:64]!r} is not a whole number of minutes from {MIN_OFFSET} to "
            f"{MAX_OFFSET}"
        )
    return minutes
