"""The catalogue refuses what it does not know; checkpoints come back whole or not at all."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from models.catalog import MODELS
from models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from models.checks.catalogue import facts, histories, inputs_of, scores_of
from tests.unit.models.cases import VARIANTS, build


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ValueError, match="'widht'"):
        MODELS["sasrec"].build({"widht": 8}, facts())


@pytest.mark.parametrize("config", [{"fusion": "men"}, {"width": "wide"}, {"length": 51}])
def test_a_value_that_makes_no_sense_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(config))):
        MODELS["pyramid_mixer"].build(config, facts())


@pytest.mark.parametrize("case", ["popularity", "gru4rec-bias", "sasrec", "pm-side-grouped", "pm-ranking", "mgnm-deep"])
def test_a_checkpoint_gives_the_same_scores(case: str, tmp_path: Path) -> None:
    model = build(case)
    name, config = VARIANTS[case]
    save_checkpoint(tmp_path, name, config, facts(), model)
    loaded_name, loaded = load_checkpoint(tmp_path)
    inputs = inputs_of(model, histories([0, 3, 8]), [0, 1, 2])
    assert loaded_name == name
    assert not loaded.training
    assert (loaded.columns, loaded.row_inputs, loaded.length) == (model.columns, model.row_inputs, model.length)
    assert torch.equal(scores_of(loaded, inputs), scores_of(model, inputs))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    name, config = VARIANTS["mgnm"]
    save_checkpoint(tmp_path, name, config, facts(), build("mgnm"))
    return tmp_path


@pytest.mark.parametrize("name", ["weights.pt", "model.json", "facts.npz"])
@pytest.mark.parametrize("content", [None, b"", b"not what it should be"])
def test_a_damaged_part_is_an_error_with_a_path(checkpoint: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (checkpoint / name).unlink()
    else:
        (checkpoint / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="checkpoint"):
        load_checkpoint(checkpoint)


def test_weights_that_would_run_code_are_refused(checkpoint: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(checkpoint / "ran"),))

    torch.save({"items.weight": Trap()}, checkpoint / "weights.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(checkpoint)
    (checkpoint / "weights.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(CheckpointError):
        load_checkpoint(checkpoint)
    assert not (checkpoint / "ran").exists()


def test_a_checkpoint_of_another_models_weights_is_refused(checkpoint: Path) -> None:
    document = json.loads((checkpoint / "model.json").read_text())
    document["config"]["width"] = 16
    (checkpoint / "model.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="size mismatch"):
        load_checkpoint(checkpoint)
