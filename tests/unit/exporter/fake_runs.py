"""Run directories as training leaves them, with tiny models of random weights; made without the training package."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contract.bundle.context import ContextSpec
from contract.bundle.reference import format_reference
from contract.bundle.tensors import SequenceSpec
from contract.bundle.vocabulary import Vocabulary
from models.base import DatasetFacts, SequentialRecommender
from models.catalog import MODELS
from models.checkpoint import save_checkpoint
from tests.support.references import reference_of
from tests.unit.models.cases import VARIANTS

ITEMS, USERS = 60, 8


def facts(items: int = ITEMS, users: int = USERS) -> DatasetFacts:
    """Return facts of a made-up data set with a single-valued and a multi-valued feature."""
    random = np.random.default_rng(3)
    popularity = random.zipf(1.5, items + 1).clip(0, 500).astype(np.float32)
    genre, year = random.integers(0, 6, (items + 1, 3)), random.integers(0, 11, (items + 1, 1))
    popularity[0], genre[0], year[0] = 0, 0, 0
    return DatasetFacts(items, users, popularity, {"genres": genre, "year": year}, {"genres": 6, "year": 11})


def config_of(name: str) -> dict[str, Any]:
    """Return the small config of a model's first case."""
    return next(config for model, config in VARIANTS.values() if model == name)


def sequence_of(model: SequentialRecommender) -> SequenceSpec:
    """Return what a model's `encode` reads."""
    return SequenceSpec(length=model.length, columns=model.columns, row_inputs=model.row_inputs)


def write_run(
    directory: Path,
    name: str,
    config: dict[str, Any] | None = None,
    items: int = ITEMS,
    users: int = USERS,
    metrics: dict[str, Any] | None = None,
    context: tuple[ContextSpec, ...] = (),
) -> Path:
    """Write a complete run directory and return it. Every weight is random: a start at zero hides what is wrong.

    `metrics` is metrics.json; by default that of an older version, without baselines.
    """
    chosen = config_of(name) if config is None else config
    known = replace(facts(items, users), context=context)
    torch.manual_seed(5)
    model = MODELS[name].build(chosen, known).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    directory.mkdir(parents=True)
    save_checkpoint(directory / "checkpoint", name, chosen, known, model)
    item_ids = [f"film-{index}" for index in range(1, items + 1)]
    Vocabulary(item_ids).write(directory / "items.json")
    Vocabulary([f"user-{index}" for index in range(1, users + 1)]).write(directory / "users.json")
    np.save(directory / "popularity.npy", known.item_popularity)
    titles = {item_id: {"title": f"Film {item_id} | part"} for item_id in item_ids}
    _write(directory / "catalogue.json", {"items": titles})
    (directory / "reference.json").write_bytes(format_reference(reference_of()))
    _write(directory / "recipe.json", {"dataset": "made-up", "model": name, "seed": 1, "config": chosen})
    older = {"test": {"ndcg@10": 0.25}, "valid": {"ndcg@10": 0.5}, "queries": {"test": 8}, "protocol": "leave one out"}
    _write(directory / "metrics.json", older if metrics is None else metrics)
    _write(
        directory / "run.json",
        {
            "run_id": directory.name, "model": name, "recipe_digest": "0123456789ab", "seed": 1, "dataset": "made-up",
            "dataset_digest": "d" * 64, "sequence": sequence_of(model).model_dump(mode="json"), "git_revision": "abc",
            "torch_version": torch.__version__,
        },
    )  # fmt: skip
    return directory


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
