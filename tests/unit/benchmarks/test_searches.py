"""Equal search budgets for the systems of a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tables import __main__ as tables
from benchmarks.tables.plan import load_plan
from benchmarks.tables.searches import space_of
from training.data.datasets import generated
from training.data.prepare import prepare
from training.recipe import load_recipe

NEXT = Path(__file__).resolve().parents[3] / "benchmarks" / "tables" / "ml-100k-next.toml"
PLAN = """
title = "t"
dataset = "small"
seeds = [0]
tune = "a"
reference = "BPR"
trials = 2
[training]
epochs = 2
rows_per_epoch = 100
negatives = 2
[protocols.a]
held = 1
[[systems]]
name = "BPR"
model = "bpr"
config = { length = 4, width = 4 }
trials = [{ training = { learning_rate = 1e-3 } }, { training = { learning_rate = 2e-2 } }]
"""


def test_every_system_of_the_next_table_has_a_space_with_its_trials() -> None:
    plan = load_plan(NEXT)
    for system in plan.systems:
        if len(system.trials) > 1:
            space = space_of(system)
            assert space["training.learning_rate"].log
            for trial in system.trials:
                for section, values in trial.items():
                    assert all(space[f"{section}.{key}"].has(value) for key, value in values.items())


@pytest.mark.slow
def test_a_search_of_a_plan_spends_its_seconds_and_writes_a_recipe(tmp_path: Path) -> None:
    prepare(generated.load(users=40, items=60, events=20, seed=1), tmp_path / "data" / "small", core=3)
    (tmp_path / "plan.toml").write_text(PLAN)
    where = ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert tables.main([str(tmp_path / "plan.toml"), "--search-seconds", "1.5", *where]) == 0
    best = load_recipe(tmp_path / "runs" / "plan" / "searches" / "bpr" / "best.toml")
    assert 1e-3 <= best.training.learning_rate <= 2e-2
    assert not list((tmp_path / "runs").rglob("metrics.json"))
