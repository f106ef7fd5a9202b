"""A page's tables follow the results; what people wrote next to them stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tables.page import refreshed

PAGE = """Before.

<!-- ours: small a ndcg@10 hr@10 -->
| System | NDCG@10 | HR@10 | Published |
| --- | --- | --- | --- |
| Pop | 9 | | .5 |
| SASRec | | | - |

After | all.
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    cells = {"ndcg@10": {"by_seed": [0.1, 0.2]}, "hr@10": {"by_seed": [0.25]}}
    rows = [
        {"name": "Pop", "seconds": {"a": 12.6}, "cells": {"a": cells}},
        {"name": "SASRec", "seconds": {}, "cells": {"a": {}}},
    ]
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "table.json").write_text(json.dumps({"seeds": [0, 1], "rows": rows}))
    return tmp_path


def test_ours_is_written_and_the_rest_stays(results: Path) -> None:
    fresh = refreshed(PAGE, results)
    assert "| Pop | .1500 | .2500 (n=1) | .5 |" in fresh
    assert "| SASRec | missing | missing | - |" in fresh
    assert fresh.startswith("Before.")
    assert fresh.endswith("After | all.\n")
    assert refreshed(fresh, results) == fresh


def test_the_cost_of_a_run_is_a_column(results: Path) -> None:
    fresh = refreshed(PAGE.replace("ndcg@10 hr@10", "ndcg@10 cpu_seconds"), results)
    assert "| Pop | .1500 | 13 | .5 |" in fresh
    assert "| SASRec | missing | missing | - |" in fresh


def test_a_system_that_the_results_do_not_have_is_an_error(results: Path) -> None:
    with pytest.raises(KeyError, match="GRU"):
        refreshed(PAGE.replace("SASRec", "GRU"), results)


def test_a_system_that_the_page_lacks_is_added(results: Path) -> None:
    fresh = refreshed(PAGE.replace("| SASRec | | | - |\n", ""), results)
    assert fresh == refreshed(PAGE, results)
