"""The seam between a training and those who are told about it, with real trainings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.command_lines import spoilt
from training import __main__ as training
from training.fitting.fit import Epoch
from training.recipe import load_recipe
from training.reporting import chosen
from training.reporting.reporter import Ending, Reporting, Training
from training.runs import RunDirectory

RECIPE = """
dataset = "small"
model = "bpr"
[config]
length = 4
width = 8
[training]
epochs = 3
rows_per_epoch = 200
learning_rate = 0.01
negatives = 2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


class Witness:
    """Notes what it is told; may fail in one of the calls."""

    name: ClassVar[str] = "witness"
    required: ClassVar[bool] = False

    def __init__(self, fails_in: str = "") -> None:
        self.told: list[object] = []
        self._fails_in = fails_in

    def begin(self, training: Training) -> None:
        self._note("begin", training.folder.name)

    def epoch(self, epochs: Sequence[Epoch]) -> None:
        self._note("epoch", len(epochs))

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        self._note("end", ending, dict(metrics))

    def _note(self, call: str, *what: object) -> None:
        self.told.append((call, *what))
        if call == self._fails_in:
            raise ConnectionError("no route\nto http://me:secret@host")


def _of(folder: Path, recipe: Path) -> Training:
    folder.mkdir()
    return Training(folder, load_recipe(recipe), "ndcg@10")


def _epochs(count: int) -> list[Epoch]:
    return [Epoch(number, 1 / number, 0.1 * number, best=True, rows_per_second=5.0) for number in range(1, count + 1)]


def test_reporters_are_told_of_begin_epochs_and_end(tmp_path: Path, recipe: Path) -> None:
    witness, said = Witness(), list[str]()
    with Reporting([witness], said.append).of(_of(tmp_path / "run", recipe)) as report:
        report.epoch(_epochs(1))
        report.epoch(_epochs(2))
        report.finished({"ndcg@10": 0.5})
    assert witness.told == [("begin", "run"), ("epoch", 1), ("epoch", 2), ("end", "finished", {"ndcg@10": 0.5})]
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2
    assert said == []


@pytest.mark.parametrize("call", ["begin", "epoch", "end"])
def test_a_reporter_that_fails_is_said_once_and_the_others_go_on(tmp_path: Path, recipe: Path, call: str) -> None:
    bad, good, said = Witness(call), Witness(), list[str]()
    with Reporting([bad, good], said.append).of(_of(tmp_path / "run", recipe)) as report:
        for count in (1, 2):
            report.epoch(_epochs(count))
        report.finished({})
    assert said == ["witness: ConnectionError: no route to http://***@host; the training goes on without it"]
    assert [told for told in bad.told if told[0] == call] == bad.told[-1:]  # type: ignore[index]
    assert len(good.told) == 4


def test_the_end_tells_whether_a_training_failed_or_was_stopped(tmp_path: Path, recipe: Path) -> None:
    witness = Witness()
    with pytest.raises(RuntimeError, match="boom"), Reporting([witness], print).of(_of(tmp_path / "run", recipe)):
        raise RuntimeError("boom")
    assert witness.told[-1] == ("end", "failed", {})


def test_a_log_that_cannot_be_written_ends_the_training(tmp_path: Path, recipe: Path) -> None:
    training_ = _of(tmp_path / "run", recipe)
    spoilt(training_.folder / "log.jsonl", "a folder")
    with pytest.raises(OSError, match=r"log\.jsonl"), Reporting([], print).of(training_) as report:
        report.epoch(_epochs(1))


def _trained(recipe: Path, data: Path, out: Path, *options: str) -> Path:
    where = ["--data", str(data), "--out", str(out), "--device", "cpu", "--mlflow", ""]
    assert training.main(["train", str(recipe), *where, *options]) == 0
    (facts,) = out.glob("*/*/*/run.json")
    return facts.parent


def test_a_training_draws_its_curves_and_writes_an_events_file(recipe: Path, data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = _trained(recipe, data, tmp_path / "runs", "--tensorboard")
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [one.step for one in events.Scalars("loss")] == [1, 2, 3]
    assert [one.value for one in events.Scalars("loss")] == pytest.approx([line["loss"] for line in log])
    valid = f"valid/{RunDirectory(run).metrics()['selects']}"
    assert [one.value for one in events.Scalars(valid)] == pytest.approx([line["valid_score"] for line in log])
    assert events.Scalars("test/ndcg@10")[0].value == pytest.approx(RunDirectory(run).metrics()["test"]["ndcg@10"])


def test_without_tensorboard_there_is_no_events_file(recipe: Path, data: Path, tmp_path: Path) -> None:
    assert not (_trained(recipe, data, tmp_path / "runs") / "tensorboard").exists()


def test_extras_that_are_not_installed_are_one_line_each(
    recipe: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chosen, "find_spec", lambda _: None)
    run = _trained(recipe, data, tmp_path / "runs", "--tensorboard", "--mlflow", "http://localhost:1")
    lines = [line for line in capsys.readouterr().out.splitlines() if "not installed" in line]
    assert lines == [
        "no curves.png: matplotlib is not installed (pip install matplotlib)",
        "no events file: the extra tensorboard is not installed (pip install tensorboard)",
        "MLflow is told nothing: the extra mlflow is not installed (pip install mlflow-skinny)",
    ]
    assert not (run / "curves.png").exists()
