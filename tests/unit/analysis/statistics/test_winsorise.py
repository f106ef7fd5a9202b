from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from analysis.metrics import METRICS
from analysis.statistics.winsorise import winsorise

WINSORISED = [metric.name for metric in METRICS if metric.winsorised]


def units(values: list[float]) -> pa.Table:
    zeros = [0.0] * len(values)
    columns = {name: zeros for metric in WINSORISED for name in (metric, f"{metric}_pre")}
    return pa.table(
        {"unit": [str(place) for place in range(len(values))], **columns, "playtime": values, "like": values}
    )


def test_the_cap_is_the_percentile_of_non_zero_values_of_all_arms() -> None:
    values = [0.0] * 5_000 + [float(value) for value in range(1, 1_002)]
    cut, caps = winsorise(units(values))
    assert caps["playtime"] == pytest.approx(1_000.0)  # 0.999 of the way from 1 to 1,001
    assert max(cut["playtime"].to_pylist()) == caps["playtime"]
    assert cut["playtime"].to_pylist()[:-1] == values[:-1]


def test_raw_values_are_kept_beside() -> None:
    values = [float(value) for value in np.arange(2_000) ** 2]
    cut, _ = winsorise(units(values))
    assert cut["playtime_raw"].to_pylist() == values
    assert cut["playtime"].to_pylist() != values


def test_other_metrics_and_columns_of_zeros_are_unchanged() -> None:
    values = [float(value) for value in range(5_000)]
    cut, caps = winsorise(units(values))
    assert cut["like"].to_pylist() == values
    assert "like_raw" not in cut.column_names
    assert cut["share_pre"].to_pylist() == [0.0] * 5_000
    assert caps["share_pre"] == 0.0
