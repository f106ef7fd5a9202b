"""Days of a news feed: warm starts from yesterday's run, and fits of every row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from contract.bundle.reference import parse_reference
from models.checkpoint import load_checkpoint
from tests.support.news_days import day_ms, write_days
from tests.support.news_log import SMALL, news_log
from training.__main__ import main
from training.data.prepare import load_prepared
from training.fitting.fit import Fit
from training.later import judge_later
from training.origin import read_origin
from training.recipe import SplitRecipe
from training.runs import RunDirectory
from training.train import Machine

pytestmark = pytest.mark.usefixtures("no_curves")

RECIPE = """dataset = "news"
model = "sasrec"
[config]
length = 8
width = 8
blocks = 1
inner = 8
side = ["category"]
[split]
protocol = "time"
[training]
epochs = 2
batch = 64
learning_rate = 0.01
[warm]
epochs = 1
replay = 1.0
"""


class Days(NamedTuple):
    """Folders of three days of prepared data, the run of the first one, and its recipe."""

    data: dict[int, Path]
    run: Path
    recipe: Path


def train(*arguments: object) -> int:
    return main([str(argument) for argument in (*arguments, "--device", "cpu")])


def facts(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text()))


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    folder, log = tmp_path_factory.mktemp("days"), news_log(**SMALL)
    data = {day: folder / f"data-{day}" for day in (3, 4)}
    for day in data:
        (folder / str(day)).mkdir()
        write_days(log, folder / str(day) / "news.csv", day)
    prepare = ["prepare", "--core", "1", "--out"]
    assert main([*prepare, str(data[3]), str(folder / "3" / "news.csv")]) == 0
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE)
    assert train("train", recipe, "--data", data[3], "--out", folder / "runs") == 0
    (run,) = (folder / "runs" / "news" / "sasrec").iterdir()
    assert main([*prepare, str(data[4]), str(folder / "4" / "news.csv"), "--after", str(run)]) == 0
    return Days(data, run, recipe)


@pytest.fixture
def made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """Run a training command that must succeed; returns its run."""

    def run(*arguments: object) -> Path:
        assert train(*arguments, "--out", tmp_path / "runs") == 0
        return Path(capfd.readouterr().out.rsplit("run: ", 1)[1].strip())

    return run


def test_a_warm_start_learns_the_new_rows_and_as_many_old_ones(days: Days, made: Callable[..., Path]) -> None:
    before, told = facts(days.run), facts(made("train", "--from", days.run, "--data", days.data[4]))
    assert told["started_from"] == days.run.name
    assert told["new_rows"] == told["old_rows"] == told["rows"] / 2
    assert told["rows"] < before["rows"]
    assert told["learnt_until_ms"] > before["learnt_until_ms"]
    assert (told["epochs"], told["fit"]) == (1, "validated")


def test_a_warm_start_without_a_step_has_the_weights_of_yesterday(
    days: Days, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fit, "_step", lambda *_: 0.0)
    run = made("train", "--from", days.run, "--data", days.data[4])
    (_, before), (_, after) = load_checkpoint(days.run / "checkpoint"), load_checkpoint(run / "checkpoint")
    assert after.item_count > before.item_count
    for name, old in before.state_dict().items():
        if not name.endswith("codes"):
            assert torch.equal(after.state_dict()[name][: len(old)], old), name


def test_data_with_other_indices_are_refused_with_the_remedy(days: Days, tmp_path: Path, refused: Any) -> None:
    data = tmp_path / "data"
    shutil.copytree(days.data[4], data)
    items = json.loads((data / "news" / "items.json").read_text())
    items["ids"][0], items["ids"][1] = items["ids"][1], items["ids"][0]
    (data / "news" / "items.json").write_text(json.dumps(items))
    said = refused(main, "train", "--from", days.run, "--data", data, "--out", tmp_path / "runs")
    assert f"the items of {data / 'news'} do not continue those of the run" in said
    assert f"--after {days.run}" in said
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_recipe_of_another_model_is_refused(days: Days, tmp_path: Path, refused: Any) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("width = 8", "width = 16"))
    said = refused(main, "train", recipe, "--from", days.run, "--data", days.data[4], "--out", tmp_path / "runs")
    assert "its model or config is not that of the recipe" in said


def test_a_fit_of_all_rows_learns_each_with_the_epochs_that_validation_chose(
    days: Days, made: Callable[..., Path]
) -> None:
    run = made("fit-all", days.run, "--data", days.data[3])
    told, before = facts(run), facts(days.run)
    prepared = load_prepared(days.data[3] / "news")
    begun = int((np.diff(prepared.user_starts) > 0).sum())  # a user's first interaction has no history
    assert told["rows"] == len(prepared.columns["items"]) - begun
    assert told["learnt_until_ms"] == prepared.columns["times_ms"].max()
    assert (told["fit"], told["validated_by"], told["epochs"]) == ("all", days.run.name, before["best_epoch"])
    assert np.load(run / "popularity.npy").sum() == len(prepared.columns["items"])
    measured = json.loads((run / "metrics.json").read_text())
    assert measured == json.loads((days.run / "metrics.json").read_text()) | {"measured_by": days.run.name}
    mine, theirs = (parse_reference((one / "reference.json").read_bytes()) for one in (run, days.run))
    assert (mine.queries, mine.lengths, mine.ages) == (theirs.queries, theirs.lengths, theirs.ages)
    assert mine.candidates == theirs.candidates  # unknown to the part that trains, not to this fit
    assert mine.scores != theirs.scores


def test_a_fit_of_all_rows_needs_none_for_validation(days: Days, made: Callable[..., Path]) -> None:
    times = np.sort(load_prepared(days.data[3] / "news").columns["times_ms"])
    until = f"{datetime.fromtimestamp(int(times[7]) / 1000, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    run = made("fit-all", days.run, "--data", days.data[3], "--until", until)
    assert facts(run)["rows"] < 5  # none of them for test
    assert not (run / "reference.json").exists()


def test_a_fit_of_all_rows_of_a_warm_start_starts_where_that_did(days: Days, made: Callable[..., Path]) -> None:
    warm = made("train", "--from", days.run, "--data", days.data[4])
    run = made("fit-all", warm, "--data", days.data[4])
    assert facts(run)["started_from"] == days.run.name
    assert facts(run)["new_rows"] > facts(warm)["new_rows"]


def test_until_leaves_out_what_happened_later(days: Days, made: Callable[..., Path]) -> None:
    run = made("fit-all", days.run, "--data", days.data[3], "--until", "2025-03-05")
    assert facts(run)["learnt_until_ms"] < day_ms(2)
    prepared = load_prepared(days.data[3] / "news")
    assert np.load(run / "popularity.npy").sum() == (prepared.columns["times_ms"] < day_ms(2)).sum()


def test_a_stopped_fit_of_all_rows_resumes_to_the_same_weights(
    days: Days, made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made("fit-all", days.run, "--data", days.data[3])
    step = Fit._step

    def stopped(self: Fit, batch: Any, number: int) -> float:
        if number == 3:
            raise KeyboardInterrupt
        return step(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_step", stopped)
        assert train("fit-all", days.run, "--data", days.data[3], "--out", tmp_path / "stopped") == 130
    (run,) = (tmp_path / "stopped" / "news" / "sasrec").iterdir()
    assert read_origin(run).fit == "all"
    assert train("train", "--resume", run, "--data", days.data[3]) == 0
    (_, one), (_, other) = load_checkpoint(run / "checkpoint"), load_checkpoint(whole / "checkpoint")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_fit_of_all_rows_is_not_judged(days: Days, made: Callable[..., Path], refused: Any) -> None:
    run = made("fit-all", days.run, "--data", days.data[3])
    assert "has learnt every row" in refused(main, "evaluate", run, "--data", days.data[3])
    assert "has learnt every row" in refused(main, "compare", run)
    assert "has learnt every row already" in refused(main, "fit-all", run, "--data", days.data[3])


@pytest.mark.parametrize("text", ["yesterday", "2025-13-01", ""])
def test_a_time_that_is_none_is_refused(days: Days, refused: Any, text: str) -> None:
    said = refused(main, "fit-all", days.run, "--data", days.data[3], "--until", text)
    assert "is not a date or time such as" in said


def test_a_run_is_judged_on_the_queries_of_a_day_after_it(days: Days, made: Callable[..., Path], capfd: Any) -> None:
    later = ("evaluate", days.run, "--later", "--data", days.data[4], "--report")
    assert train(*later) == 0
    old = json.loads(capfd.readouterr().out.splitlines()[-1])
    new = json.loads((made("train", "--from", days.run, "--data", days.data[4]) / "metrics.json").read_text())
    for key in ("queries", "view_queries", "first_metric", "baselines"):
        expected = new[key] if key in ("first_metric", "baselines") else {"test": new[key]["test"]}
        assert old[key] == expected, key
    assert old["test"]["cold.ndcg@10"] < 0.05  # it knows none of these items


def test_a_run_is_not_judged_on_what_it_has_learnt(days: Days, made: Callable[..., Path], refused: Any) -> None:
    run = made("fit-all", days.run, "--data", days.data[3])
    said = refused(main, "evaluate", run, "--later", "--data", days.data[3])
    assert "has learnt some of the test queries" in said


def test_new_items_of_a_later_day_are_judged_by_their_features(
    days: Days, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "features.toml"
    recipe.write_text(RECIPE.replace('side = ["category"]', 'side = ["category"]\nout_side = true\nid_dropout = 0.3'))
    assert train("train", recipe, "--data", days.data[3], "--out", tmp_path / "runs") == 0
    (run,) = (tmp_path / "runs" / "news" / "sasrec").iterdir()
    shift = facts(run)["new_item_shift"]
    assert shift["clicks"] > 0
    assert train("fit-all", run, "--data", days.data[3], "--out", tmp_path / "fits") == 0
    (fit,) = (tmp_path / "fits" / "news" / "sasrec").iterdir()
    assert facts(fit)["new_item_shift"] == shift
    assert float(load_checkpoint(fit / "checkpoint")[1].state_dict()["items.ids.shift"]) == pytest.approx(
        shift["added"]
    )
    split = SplitRecipe(protocol="time", valid_hours=6, test_hours=6)
    monkeypatch.setattr("contract.progress.PLAIN_SECONDS", 0.0)
    capsys.readouterr()
    found, without = (judge_later(RunDirectory(one), days.data[4], Machine("cpu", 1), split) for one in (run, days.run))
    shown = capsys.readouterr().err.splitlines()
    assert [line for line in shown if line.startswith("evaluation")]
    assert shown[-1].startswith("evaluation  100%")
    assert found["view_queries"]["test"]["cold"] > 20
    assert found["test"]["cold.ndcg@10"] > 2 * without["test"]["cold.ndcg@10"]
