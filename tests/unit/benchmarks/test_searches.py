"""Equal search budgets for the systems of a table."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.tables import __main__ as tables
from benchmarks.tables import searches
from benchmarks.tables.plan import Plan, load_plan
from benchmarks.tables.records import Records, read_lines
from benchmarks.tables.render import MISSING, markdown, write_table
from benchmarks.tables.rows import read_rows
from benchmarks.tables.runner import Folders, Places, missing, pending
from benchmarks.tables.searched import Searched, search_jobs, space_of
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
search_seconds = 1.5
[training]
epochs = 2
rows_per_epoch = 100
negatives = 2
[protocols.a]
held = 1
[[systems]]
name = "Pop"
model = "popularity"
training = { epochs = 0 }
[[systems]]
name = "BPR"
model = "bpr"
config = { length = 4, width = 4 }
trials = [{ training = { learning_rate = 1e-3 } }, { training = { learning_rate = 2e-2, weight_decay = 0.5 } }]
"""
QUIET = Console(file=StringIO())


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "plan.toml").write_text(PLAN)
    return load_plan(tmp_path / "plan.toml")


def _record(plan: Plan, **changed: Any) -> dict[str, Any]:
    (job,) = search_jobs(plan)
    trials = [{"number": place, "state": state} for place, state in enumerate(("complete", "pruned", "complete"))]
    return {
        "name": job.name, "system": "BPR", "cpu_seconds": 1.5, "metric": "ndcg@10", "value": 0.25, "best": 2,
        "spent": {"trials": 3, "rows": 500, "cpu_seconds": 1.62}, "trials": trials,
        "values": {"training.learning_rate": 0.004, "training.weight_decay": 0.5}, **changed,
    }  # fmt: skip


def test_every_system_of_the_next_table_has_a_space_with_its_trials() -> None:
    plan = load_plan(NEXT)
    assert len(list(search_jobs(plan))) == sum(len(system.trials) > 1 for system in plan.systems)
    for system in plan.systems:
        if len(system.trials) > 1:
            space = space_of(plan, system)
            assert space["training.learning_rate"].log
            for trial in system.trials:
                for section, values in trial.items():
                    assert all(space[f"{section}.{key}"].has(value) for key, value in values.items())


def test_a_space_has_the_value_of_trials_that_do_not_set_a_key(plan: Plan) -> None:
    assert space_of(plan, plan.systems[1])["training.weight_decay"].choices == (0.0, 0.5)


def test_the_table_trains_the_best_recipe_of_a_search_and_tells_its_budget(plan: Plan, tmp_path: Path) -> None:
    places = Places(Folders(tmp_path, tmp_path), Records(tmp_path / "results"))
    searched = Searched(places.records.folder)
    bpr = frozenset({"BPR"})
    assert pending(searched.applied(plan), places.records, bpr) == []  # a search that is missing is nothing to train
    searched.write(_record(plan))
    again = Searched(places.records.folder)
    (job,) = pending(again.applied(plan), places.records, bpr)
    assert (job.recipe.training.learning_rate, job.recipe.training.weight_decay) == (0.004, 0.5)
    assert job.parts == ("valid", "test")
    folder = write_table(plan, places.records, tmp_path / "results", QUIET)
    text = (folder / "table.md").read_text()
    assert "Every system was searched with 1.5 CPU seconds, by a on validation with seed 0" in text
    assert "| BPR | 3 | 1 | 0 | 2 | NDCG@10 0.2500 (trial 3) | learning_rate 0.004, weight_decay 0.5 |" in text
    assert json.loads((folder / "table.json").read_text())["searches"]["systems"]["BPR"]["spent"]["trials"] == 3


def test_a_search_with_another_budget_or_of_another_recipe_is_missing(plan: Plan, tmp_path: Path) -> None:
    searched = Searched(tmp_path)
    searched.write(_record(plan))
    assert searched.by_system(plan)["BPR"] is not None
    wider = plan.model_copy(update={"training": {**plan.training, "epochs": 3}})
    dearer = plan.model_copy(update={"search_seconds": 3.0})
    for other in (wider, dearer):
        assert searched.by_system(other) == {"BPR": None}
        assert missing(searched.applied(other), Records(tmp_path), frozenset({"BPR"})) == 0
    rows = read_rows(searched.applied(dearer), Records(tmp_path))
    assert f"| BPR |{f' {MISSING} |' * 6}" in markdown(dearer, rows, searched.by_system(dearer))


@pytest.mark.slow
def test_a_table_is_made_of_its_searches_and_goes_on_where_it_was(tmp_path: Path, plan: Plan) -> None:
    prepare(generated.load(users=40, items=60, events=20, seed=1), tmp_path / "data" / "small", core=3)
    where = ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert tables.main([str(tmp_path / "plan.toml"), *where]) == 0
    (job,) = search_jobs(plan)
    folder = tmp_path / "runs" / "plan" / "searches" / job.name
    best = load_recipe(folder / "best.toml")
    assert 1e-3 <= best.training.learning_rate <= 2e-2
    assert not list(folder.rglob("metrics.json"))  # no trial is judged on test

    results = tmp_path / "results" / "plan"
    (search,) = read_lines(results / "searches.jsonl")
    assert search["spent"]["cpu_seconds"] >= 1.5
    assert len(search["trials"]) == search["spent"]["trials"] > 1
    (run,) = [run for run in read_lines(results / "runs.jsonl") if run["system"] == "BPR"]
    assert run["recipe"]["training"] == best.model_dump(mode="json")["training"]
    assert run["by_user"]

    kept = {path: path.stat().st_mtime_ns for path in (results / "runs.jsonl", results / "searches.jsonl")}
    assert tables.main([str(tmp_path / "plan.toml"), *where]) == 0  # nothing is searched or trained twice
    assert kept == {path: path.stat().st_mtime_ns for path in kept}

    assert tables.main([str(tmp_path / "plan.toml"), *where, "--search-seconds", "2.5"]) == 0  # goes on to its new end
    (longer,) = read_lines(results / "searches.jsonl")
    assert longer["trials"][: len(search["trials"]) - 1] == search["trials"][:-1]
    assert longer["spent"]["cpu_seconds"] >= 2.5
    assert tables.main([str(tmp_path / "plan.toml"), *where, "--search-seconds", "1"]) == 1  # it has had more already


@pytest.mark.slow
def test_a_search_without_a_result_is_reported_and_its_row_is_missing(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.replace('"small"', '"absent"'))
    plan, places = load_plan(tmp_path / "plan.toml"), Places(Folders(tmp_path, tmp_path), Records(tmp_path))
    (failed,) = searches.search_all(plan, places, Searched(tmp_path), QUIET, 1, frozenset())
    assert failed.startswith("BPR: DataError")
    assert Searched(tmp_path).by_system(plan) == {"BPR": None}
