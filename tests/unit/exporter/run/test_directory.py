from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contract.bundle.vocabulary import Vocabulary
from exporter.errors import ExportError
from exporter.parity.verify import check_weights
from exporter.run.directory import read_run
from tests.unit.exporter.fake_runs import ITEMS, USERS, write_run


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", "mgnm")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_complete_run_is_read(directory: Path) -> None:
    run = read_run(directory)
    assert (run.name, len(run.items), run.user_count) == ("mgnm", ITEMS, USERS)
    assert run.sequence.row_inputs == ("user",)
    assert not run.model.training
    assert run.metrics == {"test": {"ndcg@10": 0.25}, "valid": {"ndcg@10": 0.5}}
    assert run.queries == {"test": 8.0}
    assert run.protocol == "leave one out"
    assert run.recipe_digest == "0123456789ab"


def test_user_vocabulary_is_left_out_where_the_model_does_not_read_the_user(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", "popularity"))
    assert run.users is None
    assert run.user_count == 0


def test_run_that_was_never_evaluated_has_no_metrics(directory: Path) -> None:
    (directory / "metrics.json").unlink()
    run = read_run(directory)
    assert (run.metrics, run.queries, run.protocol) == ({}, {}, "")


def test_run_without_titles_has_no_catalogue(directory: Path) -> None:
    (directory / "catalogue.json").unlink()
    assert read_run(directory).catalogue is None


def test_a_run_of_an_older_version_has_no_record_of_validation(directory: Path) -> None:
    (directory / "reference.json").unlink()
    assert read_run(directory).reference is None


def test_a_damaged_record_of_validation_is_named(directory: Path) -> None:
    edit(directory / "reference.json", scores={"edges": [1, 1], "counts": [1, 2, 3]})
    with pytest.raises(ExportError, match=r"reference\.json: scores: .*edges must rise"):
        read_run(directory)


@pytest.mark.parametrize(
    "missing", ["run.json", "recipe.json", "items.json", "users.json", "popularity.npy", "checkpoint/weights.pt"]
)
def test_missing_file_is_named_in_one_line(directory: Path, missing: str) -> None:
    (directory / missing).unlink()
    with pytest.raises(ExportError, match=missing.split("/")[-1]) as caught:
        read_run(directory)
    assert "\n" not in str(caught.value)


def test_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no such run directory"):
        read_run(tmp_path / "nowhere")


def _shorter(directory: Path) -> None:
    Vocabulary(["a", "b"]).write(directory / "items.json")


def _fewer_users(directory: Path) -> None:
    Vocabulary(["a", "b"]).write(directory / "users.json")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_shorter, "items.json: is of 2, but the checkpoint's item_count is 60"),
        (_fewer_users, "users.json: is of 2, but the checkpoint's user_count is 8"),
        (lambda run: (run / "items.json").write_text("[]"), "items.json"),
        (lambda run: (run / "run.json").write_text("no JSON"), "run.json"),
        (lambda run: (run / "recipe.json").write_text("[1]"), "recipe.json: damaged: it is not a JSON object"),
        (lambda run: (run / "catalogue.json").write_text('{"items": []}'), "catalogue.json"),
        (lambda run: (run / "catalogue.json").write_text('{"items": {"a": 1}}'), "catalogue.json"),
        (lambda run: edit(run / "run.json", sequence=None), "run.json: sequence"),
        (lambda run: edit(run / "run.json", sequence={"length": 0}), r"run.json: sequence\.length"),
        (lambda run: edit(run / "run.json", sequence={"length": 9}), "sequence is not that of the checkpoint"),
        (lambda run: np.save(run / "popularity.npy", np.ones(3, dtype=np.float32)), "popularity.npy: is of 2"),
        (lambda run: np.save(run / "popularity.npy", np.ones(61)), "popularity.npy: expected float32"),
        (lambda run: np.save(run / "popularity.npy", np.full(61, np.nan, np.float32)), "popularity.npy: expected"),
        (lambda run: (run / "popularity.npy").write_bytes(b"junk"), "popularity.npy"),
    ],
)
def test_file_that_does_not_fit_is_named_in_one_line(
    directory: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(directory)
    with pytest.raises(ExportError, match=reason) as caught:
        read_run(directory)
    assert "\n" not in str(caught.value)


def test_pickled_popularity_is_never_unpickled(directory: Path) -> None:
    np.save(directory / "popularity.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ExportError, match=r"popularity\.npy"):
        read_run(directory)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_run_with_a_weight_that_is_not_finite_is_refused_and_the_row_named(directory: Path, bad: float) -> None:
    model = read_run(directory).model
    check_weights(model)
    name, table = next((name, weight) for name, weight in model.named_parameters() if weight.dim() == 2)
    with torch.no_grad():
        table[3, 1] = bad
    with pytest.raises(ExportError, match=rf"{name}: 1 weights are not finite, the first in row 3"):
        check_weights(model)
