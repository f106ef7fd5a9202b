"""Checkpoints: weights as tensors, everything else as JSON and plain arrays; no pickled object is ever loaded."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from models.base import DatasetFacts, InteractionLog, SequentialRecommender
from models.catalog import MODELS

WEIGHTS, CONFIG, FACTS = "weights.pt", "model.json", "facts.npz"


class CheckpointError(ValueError):
    """A checkpoint is incomplete or not of this code; the message says which part."""


def save_checkpoint(
    directory: Path, name: str, config: dict[str, Any], facts: DatasetFacts, model: SequentialRecommender
) -> None:
    """Write a model's weights, its name and config, and the facts it was built from; the log only where it reads it."""
    directory.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), directory / WEIGHTS)
    arrays: dict[str, Any] = {f"feature.{field}": values for field, values in facts.item_features.items()}
    if model.reads_log:
        arrays |= {f"log.{column}": values for column, values in facts.log._asdict().items()}
    np.savez_compressed(directory / FACTS, item_popularity=facts.item_popularity, **arrays)
    document = {
        "model": name,
        "config": asdict(MODELS[name].configure(config)),
        "item_count": facts.item_count,
        "user_count": facts.user_count,
        "cardinalities": facts.cardinalities,
    }
    (directory / CONFIG).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def load_checkpoint(directory: Path) -> tuple[str, SequentialRecommender]:
    """Read a model's name and the model itself, in evaluation mode.

    Raises:
        CheckpointError: a part is missing, malformed, or does not fit the model.
    """
    try:
        document = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        with np.load(directory / FACTS, allow_pickle=False) as arrays:
            popularity = arrays["item_popularity"]
            features = {key.removeprefix("feature."): arrays[key] for key in arrays.files if key.startswith("feature.")}
            columns = [arrays[f"log.{column}"] for column in InteractionLog._fields if f"log.{column}" in arrays]
        log = InteractionLog(*columns) if columns else InteractionLog.empty()
        facts = DatasetFacts(
            document["item_count"], document["user_count"], popularity, features, document["cardinalities"], log
        )
        model = MODELS[document["model"]].build(document["config"], facts)
        model.load_state_dict(torch.load(directory / WEIGHTS, weights_only=True, map_location="cpu"))
    except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, UnpicklingError, BadZipFile) as error:
        raise CheckpointError(f"checkpoint {directory}: {error}") from error
    return str(document["model"]), model.eval()
