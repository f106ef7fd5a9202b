"""The command line from raw files to a comparison, on small data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.bundle.reference import parse_reference
from contract.bundle.tensors import SequenceSpec
from contract.bundle.vocabulary import Vocabulary
from models.checkpoint import load_checkpoint
from training import train as training_module
from training.__main__ import main
from training.data.datasets import generated
from training.data.prepare import prepare
from training.fitting.fit import Fit

pytestmark = pytest.mark.usefixtures("no_curves")

POPULARITY = 'dataset = "small"\nmodel = "popularity"\n[training]\nepochs = 0\n'
SASREC = """dataset = "small"
model = "sasrec"
[config]
length = 8
width = 8
blocks = 1
inner = 8
[training]
epochs = 2
batch = 64
learning_rate = 0.01
"""


def _train(tmp_path: Path, data: Path, text: str, *options: str) -> int:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    return main(
        ["train", str(recipe), "--data", str(data), "--out", str(tmp_path / "runs"), "--device", "cpu", *options]
    )


def _runs(tmp_path: Path) -> list[Path]:
    return sorted(path.parent for path in (tmp_path / "runs").glob("*/*/*/recipe.json"))


def test_prepare_says_what_it_made(tmp_path: Path, ml100k_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["prepare", "ml-100k", "--data", str(ml100k_folder), "--out", str(tmp_path / "data")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "MovieLens-100k: 12 users" in said
    assert "0.0% of the targets repeat what their user did before" in said
    assert main(arguments) == 0
    assert "unchanged" in capsys.readouterr().out


def test_a_run_directory_is_complete(tmp_path: Path, data: Path) -> None:
    assert _train(tmp_path, data, SASREC, "--seed", "3") == 0
    (run,) = _runs(tmp_path)
    assert run.parent == tmp_path / "runs" / "small" / "sasrec"
    facts, metrics = (json.loads((run / name).read_text()) for name in ("run.json", "metrics.json"))
    assert (facts["run_id"], facts["model"], facts["seed"], facts["epochs"]) == (run.name, "sasrec", 3, 2)
    assert facts["dataset"] == "generated catalogue"
    assert facts["torch_version"] == torch.__version__
    assert SequenceSpec.model_validate_json(json.dumps(facts["sequence"])).names == ("items",)
    views = [f"{seen}{kind}" for seen in ("", "unseen.") for kind in ("", "pop100.", "uni100.")]
    names = {f"{view}{name}" for view in views for name in ("hr@10", "ndcg@10", "mrr@20")}
    assert set(metrics["test"]) == set(metrics["valid"]) == names
    assert [json.loads(line)["epoch"] for line in (run / "log.jsonl").read_text().splitlines()] == [1, 2]
    items = Vocabulary.parse((run / "items.json").read_bytes())
    popularity = np.load(run / "popularity.npy", allow_pickle=False)
    assert popularity.shape == (len(items) + 1,)
    assert popularity.dtype == np.float32
    assert popularity[0] == 0
    name, model = load_checkpoint(run / "checkpoint")
    assert (name, model.item_count) == ("sasrec", len(items))
    assert not (run / "resume.pt").exists()
    reference = parse_reference((run / "reference.json").read_bytes())
    assert reference.queries == metrics["queries"]["valid"]
    assert reference.behaviours.known > 0


def test_train_and_evaluate_show_both_rankings_and_warn_of_a_model_below_popularity(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(tmp_path, data, POPULARITY) == 0
    (popularity,) = _runs(tmp_path)
    good = capsys.readouterr().out
    assert "0.0% of the targets are repeats; unseen comes first\ntest, unseen: " in good
    assert good.index("test, unseen: ") < good.index("  popularity: ") < good.index("  chance: ")
    assert "test, all: " in good
    assert "BELOW" not in good
    found = json.loads((popularity / "metrics.json").read_text())
    assert found["test"] == pytest.approx(found["baselines"]["popularity"])
    assert found["below"] == []
    assert _train(tmp_path, data, SASREC.replace("epochs = 2", "epochs = 1").replace("0.01", "1e-9")) == 0
    assert "BELOW popularity: unseen.ndcg@10" in capsys.readouterr().out
    run = next(run for run in _runs(tmp_path) if run != popularity)
    assert "popularity" in json.loads((run / "metrics.json").read_text())["below"]
    assert main(["evaluate", str(run), "--data", str(data), "--device", "cpu"]) == 0
    assert "BELOW popularity" in capsys.readouterr().out


def test_evaluating_again_gives_the_same_metrics(tmp_path: Path, data: Path) -> None:
    _train(tmp_path, data, SASREC)
    (run,) = _runs(tmp_path)
    before = (run / "metrics.json").read_text()
    (run / "metrics.json").unlink()
    assert main(["evaluate", str(run), "--data", str(data), "--device", "cpu"]) == 0
    assert (run / "metrics.json").read_text() == before


def test_the_metrics_are_of_the_weights_that_were_best_on_validation(tmp_path: Path, data: Path) -> None:
    _train(tmp_path, data, SASREC.replace("epochs = 2", "epochs = 4"))
    (run,) = _runs(tmp_path)
    epochs = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    best = max(epoch["valid_score"] for epoch in epochs)
    assert json.loads((run / "metrics.json").read_text())["valid"]["unseen.ndcg@10"] == pytest.approx(best, abs=1e-6)


def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_result(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole").mkdir()
    _train(tmp_path / "whole", data, SASREC)
    learn = Fit._learn

    def stopped(self: Fit, number: int, watcher: object) -> float:
        if number == 2:
            raise KeyboardInterrupt
        return learn(self, number, watcher)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training_module.Fit, "_learn", stopped)
        assert _train(tmp_path, data, SASREC) == 130
    (run,) = _runs(tmp_path)
    assert f"--resume {run}" in capsys.readouterr().out
    assert load_checkpoint(run / "checkpoint")[0] == "sasrec"
    assert not (run / "run.json").exists()
    assert main(["train", "--resume", str(run), "--data", str(data), "--device", "cpu"]) == 0
    (whole,) = _runs(tmp_path / "whole")
    assert (run / "metrics.json").read_text() == (whole / "metrics.json").read_text()


def test_ctrl_c_in_the_first_epoch_leaves_a_checkpoint_too(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_module.Fit, "_learn", stopped)
    assert _train(tmp_path, data, SASREC) == 130
    (run,) = _runs(tmp_path)
    assert load_checkpoint(run / "checkpoint")[0] == "sasrec"


def test_runs_are_compared_by_system_with_seeds_and_intervals(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(tmp_path, data, POPULARITY)
    for seed in ("1", "2"):
        _train(tmp_path, data, SASREC, "--seed", seed)
    capsys.readouterr()
    assert main(["compare", *map(str, _runs(tmp_path))]) == 0
    shown = capsys.readouterr().out
    assert "popularity" in shown
    assert "±" in shown
    assert "minus popularity" in shown
    assert "95% interval over seeds and users" in shown
    assert shown.index("test, unseen") < shown.index("test, all") < shown.index("minus popularity")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prepare", "netflix"], "no data set 'netflix'"),
        (["prepare", "nowhere.csv"], "nowhere.csv: no such file"),
        (["train", "nowhere.toml"], "nowhere.toml: no such recipe"),
        (["train"], "name a recipe"),
        (["evaluate", "nowhere"], "nowhere is not a run directory"),
        (["compare", "nowhere"], "nowhere is not a run directory"),
    ],
)
def test_an_error_is_one_line_and_a_status(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert words in message
    assert message.count("\n") == 1


def test_training_on_data_that_are_not_prepared_names_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(tmp_path, tmp_path / "nowhere", SASREC) == 1
    assert "python -m training prepare small" in capsys.readouterr().err


def test_a_complete_run_is_not_resumed(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _train(tmp_path, data, POPULARITY)
    assert main(["train", "--resume", str(_runs(tmp_path)[0])]) == 1
    assert "nothing to resume" in capsys.readouterr().err


def test_a_training_that_cannot_begin_leaves_no_run(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(tmp_path, data, POPULARITY.replace("small", "nowhere")) == 1
    assert _train(tmp_path, data, 'dataset = "small"\nmodel = "mgnm"\n[config]\nlength = 8\n') == 1
    assert "recipe.toml: objective 'softmax' needs negatives: set training.negatives" in capsys.readouterr().err
    assert list((tmp_path / "runs").rglob("recipe.json")) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[config]", '[config]\nside = ["category"]'), "no item feature named 'category'"),
        (("width = 8", "width = 7\nheads = 2"), "heads 2: must divide width = 7"),
        (("epochs = 2", "epochs = 2\nnegatives = 0.5"), "training.negatives"),
        (("learning_rate = 0.01", "learning_rate = nan"), "training.learning_rate"),
        (("learning_rate = 0.01", "weight_decay = nan"), "training.weight_decay"),
        (("length = 8", "length = -1"), "length: -1 is not a whole number from 0"),
        (("length = 8", "length = 100_000_000_000"), "length: 100000000000 is not a whole number from"),
        (("width = 8", "width = 8\ndropout = nan"), "dropout: nan is not a finite number"),
        (("width = 8", 'width = "wide"'), "width"),
        (("[config]", '[split]\nprotocol = "impressions"\n[config]'), "no impressions"),
        (("[config]", "[split]\nheld = 50\n[config]"), "no queries for train"),
    ],
)
def test_a_refused_training_is_one_line_and_leaves_no_folder(
    tmp_path: Path, data: Path, change: tuple[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(tmp_path, data, SASREC.replace(*change)) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert list((tmp_path / "runs").rglob("*")) == []


@pytest.mark.parametrize(("option", "words"), [("--device=abacus", "abacus"), ("--threads=-3", "-3 is fewer than 0")])
def test_a_machine_that_is_not_there_is_one_line(
    tmp_path: Path, data: Path, option: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(POPULARITY)
    assert main(["train", str(recipe), "--data", str(data), "--out", str(tmp_path / "runs"), option]) == 1
    assert words in capsys.readouterr().err
    assert list((tmp_path / "runs").rglob("*")) == []


def test_a_run_that_is_not_complete_does_not_stand_in_the_way_of_a_comparison(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(tmp_path, data, POPULARITY)
    (complete,) = _runs(tmp_path)
    killed = complete.with_name("killed")
    killed.mkdir()
    shutil.copy(complete / "recipe.json", killed)
    assert main(["compare", str(killed), str(complete)]) == 0
    assert f"left out because they are not complete: {killed}" in capsys.readouterr().out
    assert main(["compare", str(killed)]) == 1
    assert "none of these runs is complete" in capsys.readouterr().err


def _stopped_run(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    learn = Fit._learn

    def stopped(self: Fit, number: int, watcher: object) -> float:
        if number == 2:
            raise KeyboardInterrupt
        return learn(self, number, watcher)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training_module.Fit, "_learn", stopped)
        assert _train(tmp_path, data, SASREC) == 130
    (run,) = _runs(tmp_path)
    return run


def test_a_damaged_resume_file_says_what_to_do_and_the_run_stays(
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = _stopped_run(tmp_path, data, monkeypatch)
    resume = run / "resume.pt"
    arguments = ["train", "--resume", str(run), "--data", str(data), "--device", "cpu"]
    capsys.readouterr()
    for damaged in (resume.read_bytes()[:-500], b"no tensors", b""):
        resume.write_bytes(damaged)
        assert main(arguments) == 1
        said = capsys.readouterr().err
        assert "resume.pt: damaged" in said
        assert "remove the file, and the run starts again" in said
        assert said.count("\n") == 1
        assert resume.read_bytes() == damaged
    resume.unlink()
    assert main(arguments) == 0
    assert (run / "run.json").exists()


def test_a_run_does_not_go_on_with_other_data(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _stopped_run(tmp_path, data, monkeypatch)
    other = tmp_path / "other"
    prepare(generated.load(users=40, items=60, events=20, seed=2), other / "small", core=3)
    assert main(["train", "--resume", str(run), "--data", str(other), "--device", "cpu"]) == 1
    assert "the run started with other data" in capsys.readouterr().err


def test_a_recipe_learns_from_another_data_set_where_the_command_names_one(tmp_path: Path, data: Path) -> None:
    assert _train(tmp_path, data, POPULARITY.replace("small", "ml-100k"), "--dataset", "small") == 0
    (run,) = _runs(tmp_path)
    assert run.parts[-3] == "small"
    assert json.loads((run / "recipe.json").read_text())["dataset"] == "small"


ONE_LINE = "user,item,ts\n"


@pytest.mark.parametrize(
    ("rows", "recipe", "words"),
    [
        ([f"u{k},i{k % 3},{k}" for k in range(9)], POPULARITY, "users with 3 or more interactions"),
        ([f"u{k % 3},only,{k}" for k in range(15)], POPULARITY, "two items"),
        ([f"u{k % 3},i{k % 2},{k}" for k in range(30)], SASREC.replace("epochs = 2", "epochs = 2\nnegatives = 4"),
         "all 2 items"),
        ([f"u{k % 3},i{k % 5},{k}" for k in range(30)],
         'dataset = "tiny"\nmodel = "popularity"\n[split]\nprotocol = "time"\n[training]\nepochs = 0\n', "all 5 items"),
    ],
    ids=["one event each", "one item", "a history that holds the catalogue", "time split of a tiny catalogue"],
)  # fmt: skip
def test_data_that_are_too_small_are_refused_in_one_line(
    tmp_path: Path, rows: list[str], recipe: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.csv"
    file.write_text(ONE_LINE + "\n".join(row.rsplit(",", 1)[0] + f",{1_700_000_000_000 + k * 60_000}"
                                         for k, row in enumerate(rows)) + "\n")  # fmt: skip
    assert main(["prepare", str(file), "--out", str(tmp_path / "data"), "--core", "1"]) == 0
    capsys.readouterr()
    assert _train(tmp_path, tmp_path / "data", recipe, "--dataset", "tiny") == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert list((tmp_path / "runs").rglob("*")) == []


def test_a_csv_file_whose_name_no_recipe_could_hold_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my clips.csv"
    file.write_text("user,item,timestamp\na,b,1700000000\n")
    assert main(["prepare", str(file), "--out", str(tmp_path / "data")]) == 1
    assert "rename it" in capsys.readouterr().err


def test_milliseconds_in_the_column_of_seconds_are_told_where_they_belong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "clips.csv"
    file.write_text("user,item,timestamp\na,b,1700000000000\n")
    assert main(["prepare", str(file), "--out", str(tmp_path / "data")]) == 1
    assert "milliseconds belong in a column ts" in capsys.readouterr().err


def test_bad_lines_are_an_error_that_names_the_option_or_skipped_counted_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "clips.CSV"
    rows = [f"u{row % 3},i{row % 4},{1_700_000_000 + row}" for row in range(24)]
    bad = [f"u,i{row},{row}" for row in range(150)]
    file.write_text("\n".join(["user,item,timestamp", *bad, *rows]))
    prepare = ["prepare", str(file), "--core", "1", "--out", str(tmp_path / "data")]
    assert main(prepare) == 1
    error = capsys.readouterr().err
    assert "line 2, column timestamp: '0' is before 1971 in seconds" in error
    assert "--skip-bad-lines" in error
    assert not (tmp_path / "data" / "clips").exists()
    assert main([*prepare, "--skip-bad-lines"]) == 0
    listed = capsys.readouterr().err.splitlines()
    assert listed[0].startswith(f"skipped: {file}, line 2, column timestamp")
    assert (len(listed), listed[-1]) == (101, "skipped: 50 more lines")
    assert (tmp_path / "data" / "clips" / "behaviours.csv").read_text().count("\n") == 25
