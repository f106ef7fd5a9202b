"""A large catalogue is in memory once: what tables and graphs take, measured in a process of its own."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from benchmarks.catalogue import write_catalogue
from benchmarks.footprint import measure
from training.recipe import load_recipe

RECIPE = Path(__file__).parents[2] / "training/recipes/ml-100k/demo/pyramid_mixer.toml"


@pytest.mark.slow
@pytest.mark.onnx
def test_tables_and_graphs_take_at_most_1_3_times_the_tables(tmp_path: Path) -> None:
    bundle = write_catalogue(load_recipe(RECIPE), 300_000, tmp_path)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(measure, bundle, 1).result()
    assert found.table_mib > 70
    mapped = found.bundle.shared - found.start.shared
    session = found.engine.all - found.bundle.all  # graphs, and the copies of the runs
    assert mapped + session <= 1.3 * found.table_mib
