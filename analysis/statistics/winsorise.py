"""Long tails cut: above the pooled 99.9th percentile of a metric's non-zero values, its value is that percentile."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from analysis.metrics import METRICS

_PERCENTILE: Final = 99.9


def winsorise(units: pa.Table) -> tuple[pa.Table, dict[str, float]]:
    """Return a unit table with winsorised columns, and the caps by column.

    The winsorised metrics and their `_pre` columns are replaced, and the raw values are kept in `<column>_raw`.
    A cap comes from all arms together, and each period has its own. A column of zeros is kept, with the cap 0.

    Args:
        units: of the units that are analysed, such as those with a complete window.
    """
    caps: dict[str, float] = {}
    for metric in METRICS:
        for column in (metric.name, f"{metric.name}_pre") if metric.winsorised else ():
            raw = units[column].to_numpy()
            present = raw[raw != 0]
            caps[column] = float(np.percentile(present, _PERCENTILE)) if present.size else 0.0
            units = units.set_column(
                units.schema.get_field_index(column), column, pa.array(np.minimum(raw, caps[column]))
            ).append_column(f"{column}_raw", units[column])
    return units, caps
