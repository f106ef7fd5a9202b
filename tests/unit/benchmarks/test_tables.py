"""A table is made of runs that are never made twice, and shows what is missing as missing."""

from __future__ import annotations

import csv
import json
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.tables import rows as table_rows
from benchmarks.tables.picture import draw_learning
from benchmarks.tables.plan import Job, Plan, PlanError, final_jobs, load_plan, trial_jobs
from benchmarks.tables.records import Records
from benchmarks.tables.render import MISSING, markdown, write_table
from benchmarks.tables.rows import read_rows
from benchmarks.tables.runner import Folders, Places, chosen_trial, make, pending, run
from training.data.datasets import generated
from training.data.prepare import prepare
from training.judging.intervals import interval, interval_with_seeds

PLAN = """
title = "Small"
dataset = "small"
seeds = [0, 1]
tune = "loo2"
reference = "SASRec"
trials = 2
[training]
epochs = 1
batch = 64
rows_per_epoch = 64
[protocols.a]
held = 1
[protocols.loo2]
held = 2
[[systems]]
name = "Pop"
model = "popularity"
training = { epochs = 0 }
[[systems]]
name = "SASRec"
model = "sasrec"
note = "small"
config = { length = 5, width = 8, inner = 8, heads = 1, blocks = 1 }
trials = [{ config = { dropout = 0.1 } }, { training = { learning_rate = 1e-2 } }]
"""
ROOT = Path(__file__).resolve().parents[3]
TABLES = [  # a thousand bootstraps of ten thousand users take seconds
    pytest.param(path.name, marks=[] if path.name == "long-view" else pytest.mark.slow)
    for path in sorted((ROOT / "benchmarks" / "results").iterdir())
    if (path / "runs.jsonl").exists()
]
QUIET = Console(file=StringIO())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare(generated.load(users=30, items=40, events=15, seed=1), folder / "small", core=3)
    return folder


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred for each of forty intervals; the committed tables are made with all of them."""
    for function in (interval, interval_with_seeds):
        monkeypatch.setattr(table_rows, function.__name__, partial(function, resamples=100))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return _plan(tmp_path)


@pytest.fixture
def places(tmp_path: Path, data: Path) -> Places:
    return Places(Folders(data, tmp_path / "runs"), Records(tmp_path / "records"))


def _plan(folder: Path, text: str = PLAN) -> Plan:
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return load_plan(path)


def _named(jobs: list[Job]) -> list[tuple[str, str, int, int]]:
    return [(job.system, job.protocol, job.trial, job.recipe.seed) for job in jobs]


def test_trials_come_first_and_final_runs_follow_the_best_one(plan: Plan, places: Places) -> None:
    first = [("SASRec", "loo2", 0, 0), ("SASRec", "loo2", 1, 0)]
    pop = [("Pop", protocol, 0, seed) for seed in (0, 1) for protocol in ("a", "loo2")]
    assert _named(pending(plan, places.records)) == first + pop
    for job in pending(plan, places.records)[:2]:
        make(job, places)
    trial = chosen_trial(plan, plan.systems[1], places.records)
    assert trial is not None
    scores = [places.records.read(job).means("valid")["ndcg@10"] for job in trial_jobs(plan, plan.systems[1])]
    assert scores[trial] == max(scores)
    left = [job for job in _named(pending(plan, places.records)) if job[0] == "SASRec"]
    assert left == [("SASRec", protocol, trial, seed) for seed in (0, 1) for protocol in ("a", "loo2")]


def test_a_trial_never_sees_test_and_the_chosen_one_is_judged_without_training_again(
    plan: Plan, places: Places
) -> None:
    jobs = trial_jobs(plan, plan.systems[1])
    for job in jobs:
        make(job, places)
        assert "test" not in places.records.read(job).document["metrics"]
    trial = chosen_trial(plan, plan.systems[1], places.records)
    assert trial is not None
    chosen = next(job for job in pending(plan, places.records) if job.name == jobs[trial].name)
    weights = places.folders.runs / chosen.name / "checkpoint" / "weights.pt"
    before = weights.stat().st_mtime_ns
    make(chosen, places)
    assert weights.stat().st_mtime_ns == before
    assert places.records.judged(chosen)
    assert "ndcg@10" in places.records.read(chosen).means("test")


@pytest.mark.slow
def test_every_missing_run_is_made_in_its_own_process_and_none_twice(plan: Plan, places: Places) -> None:
    assert run(plan, places, QUIET, 2, frozenset({"Pop"})) == []
    kept = Records(places.records.folder)
    jobs = list(final_jobs(plan, plan.systems[0], 0))
    assert [kept.judged(job) for job in jobs] == [True] * 4
    written = [path.stat().st_mtime_ns for path in sorted(kept.folder.iterdir())]
    assert run(plan, Places(places.folders, kept), QUIET, 2, frozenset({"Pop"})) == []
    assert [path.stat().st_mtime_ns for path in sorted(kept.folder.iterdir())] == written


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_made(tmp_path: Path, places: Places) -> None:
    plan = _plan(tmp_path, PLAN.replace('dataset = "small"', 'dataset = "absent"'))
    failed = run(plan, places, QUIET, 1, frozenset({"Pop"}))
    assert len(failed) == 4
    assert all("absent" in one for one in failed)


def test_a_table_shows_what_is_missing_as_missing(plan: Plan, places: Places, tmp_path: Path) -> None:
    for job in pending(plan, places.records, frozenset({"Pop"})):
        make(job, places)
    folder = write_table(plan, places.records, tmp_path / "table", QUIET)
    document = json.loads((folder / "table.json").read_text())
    assert document["complete"] is False
    pop, sasrec = document["rows"]
    assert len(pop["cells"]["a"]["ndcg@10"]["by_seed"]) == 2
    assert sasrec["cells"] == {"a": {}, "loo2": {}}
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["mean"] for row in rows if row["system"] == "SASRec"} == {MISSING}
    assert all(float(row["mean"]) >= 0 for row in rows if row["system"] == "Pop")
    assert f"| SASRec | {MISSING} |" in (folder / "table.md").read_text()
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("few_resamples")
def test_a_whole_table_is_complete_and_paired_by_user(plan: Plan, places: Places) -> None:
    while jobs := pending(plan, places.records):
        make(jobs[0], places)
    pop, sasrec = read_rows(plan, places.records)
    assert all(len(cell.by_seed) == 2 for row in (pop, sasrec) for cell in row.cells["a"].values())
    difference = pop.cells["a"]["ndcg@10"].difference
    assert difference is not None
    assert difference[0] == pytest.approx(pop.cells["a"]["ndcg@10"].mean - sasrec.cells["a"]["ndcg@10"].mean, abs=1e-6)
    assert difference[1] <= difference[0] <= difference[2]
    assert sasrec.cells["a"]["ndcg@10"].difference is None
    with_seeds = pop.cells["a"]["ndcg@10"].with_seeds
    assert with_seeds is not None
    assert with_seeds[0] == pytest.approx(difference[0])
    assert with_seeds[1:] != difference[1:]
    assert [len(values) for values in sasrec.learning] == [1, 1]  # by seed, one epoch
    best = [values[0] for values in sasrec.learning]
    jobs = final_jobs(plan, plan.systems[1], sasrec.chosen or 0)
    assert best == [places.records.read(job).means("valid")["ndcg@10"] for job in jobs if job.protocol == plan.tune]
    assert "pop100.hr@10" in pop.cells["loo2"]


@pytest.mark.slow  # two tables, each with thousands of resamples
def test_a_row_may_be_held_against_another_than_the_reference(tmp_path: Path, places: Places) -> None:
    twin = """[[systems]]
name = "Pop again"
model = "popularity"
training = { epochs = 0 }
against = "Pop"
"""
    plan = _plan(tmp_path, PLAN + twin)
    for job in pending(plan, places.records, frozenset({"Pop", "Pop again"})):
        make(job, places)
    again = next(row for row in read_rows(plan, places.records) if row.name == "Pop again")
    assert again.against == "Pop"
    assert again.cells["a"]["ndcg@10"].difference == (0, 0, 0)
    folder = write_table(plan, places.records, tmp_path / "table", QUIET)
    equal = "+0.0000 [+0.0000, +0.0000]; [+0.0000, +0.0000] tie"
    assert f"| Pop again minus Pop | {equal}" in (folder / "table.md").read_text()
    assert (folder / "a-cost.png").read_bytes().startswith(b"\x89PNG")


def test_records_are_read_back_as_they_were_written(plan: Plan, places: Places) -> None:
    job, other = pending(plan, places.records, frozenset({"Pop"}))[:2]
    make(job, places)
    make(other, places)
    kept = Records(places.records.folder)
    assert [kept.judged(one) for one in (job, other)] == [True, True]
    assert kept.read(job).document == places.records.read(job).document
    by_user = kept.read(job).by_user
    assert by_user.keys() == places.records.read(job).by_user.keys() > set()
    means = kept.read(job).means("test")
    assert {name: values.mean() for name, values in by_user.items()} == pytest.approx(
        {name: means[name] for name in by_user}, abs=1e-6
    )


def test_a_damaged_line_is_named(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "runs.jsonl").write_text('{"name": "a"}\n{"name": \n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"runs\.jsonl:2: damaged"):
        Records(tmp_path).has(next(final_jobs(plan, plan.systems[0], 0)))


@pytest.mark.parametrize("name", TABLES)
def test_committed_runs_give_the_committed_table(name: str) -> None:
    plan = load_plan(ROOT / "benchmarks" / "tables" / f"{name}.toml")
    folder = ROOT / "benchmarks" / "results" / name
    assert markdown(plan, read_rows(plan, Records(folder))) == (folder / "table.md").read_text(encoding="utf-8")


def test_learning_is_drawn_of_what_learnt_for_several_epochs(tmp_path: Path) -> None:
    draw_learning(tmp_path / "none.png", "None", {"Pop": [(0.1,)], "Empty": []}, "Pop")
    assert not (tmp_path / "none.png").exists()
    five = {str(place): [(0.1, 0.2), (0.15, 0.1)] for place in range(5)}
    draw_learning(tmp_path / "some.png", "Some", five | {"Pop": [(0.1,)]}, "0")
    draw_learning(tmp_path / "same.png", "Nothing learnt", {"BPR": [(0.1, 0.1)]}, "BPR")
    for name in ("some.png", "same.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_plan_names_the_ranking_that_selects(tmp_path: Path, plan: Plan) -> None:
    unseen = _plan(tmp_path, PLAN.replace('tune = "loo2"', 'tune = "loo2"\nranking = "unseen"'))
    before, after = (trial_jobs(one, one.systems[1])[0] for one in (plan, unseen))
    assert (before.recipe.split.ranking, after.recipe.split.ranking) == ("all", "unseen")
    assert before.name != after.name  # a run that another ranking selected is not this plan's


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "tables").glob("*.toml")), ids=lambda path: path.stem)
def test_every_plan_can_be_read(path: Path) -> None:
    assert load_plan(path).systems


def test_a_table_begins_with_the_ranking_that_its_plan_names(tmp_path: Path, places: Places) -> None:
    plan = _plan(tmp_path, PLAN.replace('tune = "loo2"', 'tune = "loo2"\nranking = "unseen"'))
    make(pending(plan, places.records, frozenset({"Pop"}))[0], places)
    head = next(line for line in markdown(plan, read_rows(plan, places.records)).splitlines() if "NDCG" in line)
    assert head.startswith("| System | UNSEEN.NDCG@10 | UNSEEN.HR@10 | UNSEEN.MRR@20 | NDCG@10 |")


def test_a_runs_place_hangs_on_what_the_plan_says_of_it(tmp_path: Path, plan: Plan) -> None:
    other = _plan(tmp_path, PLAN.replace("batch = 64", "batch = 32"))
    names = {job.name for one in (plan, other) for job in trial_jobs(one, one.systems[1])}
    assert len(names) == 4


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("trials = 2", "trials = 3", "2 trials, where every system has 3"),
        ('reference = "SASRec"', 'reference = "GRU"', "reference, against and tune"),
        ('note = "small"', 'against = "GRU"', "reference, against and tune"),
        ("learning_rate = 1e-2", "rate = 1e-2", "rate: unknown key"),
        ('note = "small"', 'remark = "small"', "remark"),
        ('title = "Small"', "title = ", "small.toml"),
    ],
)
def test_a_wrong_plan_says_what_is_wrong(tmp_path: Path, line: str, instead: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _plan(tmp_path, PLAN.replace(line, instead))


def test_a_plan_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"absent\.toml"):
        load_plan(tmp_path / "absent.toml")
