"""Checkpoints: weights as tensors, everything else as JSON and plain arrays; no pickled object is ever loaded."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from contract.bundle.context import ContextSpec
from contract.command_line import CommandError, explained, one_line
from contract.files import read_arrays, read_object, write_arrays, write_json, write_whole
from models.base import DatasetFacts, InteractionLog, SequentialRecommender
from models.lookup import find_model

WEIGHTS, CONFIG, FACTS = "weights.pt", "model.json", "facts.npz"


class CheckpointError(CommandError, ValueError):
    """A checkpoint is incomplete or from other code; the message names the part."""


def save_checkpoint(
    directory: Path, name: str, config: dict[str, Any], facts: DatasetFacts, model: SequentialRecommender
) -> None:
    """Write a model's weights, its name in the recipe and config, and its facts; the log only if the model reads it."""
    directory.mkdir(parents=True, exist_ok=True)
    write_tensors(directory / WEIGHTS, model.state_dict())
    arrays: dict[str, Any] = {f"feature.{field}": values for field, values in facts.item_features.items()}
    if model.reads_log:
        arrays |= {f"log.{column}": values for column, values in facts.log._asdict().items()}
    write_arrays(directory / FACTS, {"item_popularity": facts.item_popularity, **arrays})
    document = {
        "model": name,
        "config": asdict(find_model(name).entry.configure(config)),
        "item_count": facts.item_count,
        "user_count": facts.user_count,
        "cardinalities": facts.cardinalities,
        **_context_document(facts),
    }
    write_json(directory / CONFIG, document)


def load_checkpoint(directory: Path) -> tuple[str, SequentialRecommender]:
    """Read the name of a model's runs and bundles, and the model itself, in evaluation mode.

    Raises:
        CheckpointError: a part is missing, malformed, or does not fit the model.
    """
    try:
        document, arrays = read_object(directory / CONFIG), read_arrays(directory / FACTS)
        popularity = arrays["item_popularity"]
        features = {key.removeprefix("feature."): arrays[key] for key in arrays if key.startswith("feature.")}
        columns = [arrays[f"log.{column}"] for column in InteractionLog._fields if f"log.{column}" in arrays]
        log = InteractionLog(*columns) if columns else InteractionLog.empty()
        facts = DatasetFacts(
            document["item_count"], document["user_count"], popularity, features, document["cardinalities"], log,
            context_of(document), document.get("context_hidden", 0.0),
        )  # fmt: skip
        found = find_model(document["model"])
        model = found.entry.build(document["config"], facts)
        model.load_state_dict(read_tensors(directory / WEIGHTS, torch.device("cpu")))
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {directory}: {one_line(str(error))}") from error
    return found.name, model.eval()


def context_of(document: Mapping[str, Any]) -> tuple[ContextSpec, ...]:
    """Return the context that a checkpoint's model reads, from its CONFIG document."""
    return tuple(map(ContextSpec.model_validate, document.get("context", ())))


def _context_document(facts: DatasetFacts) -> dict[str, Any]:
    """Return the entries of a model that reads the context of requests; a model that does not has none."""
    if not facts.context:
        return {}
    specs = [spec.model_dump(mode="json") for spec in facts.context]
    return {"context": specs, "context_hidden": facts.context_hidden}


def write_tensors(path: Path, document: dict[str, Any]) -> None:
    """Write tensors and plain values, whole. torch itself ends in an error without a cause where a disk is full."""
    content = io.BytesIO()
    torch.save(document, content)
    write_whole(path, content.getvalue())


def read_tensors(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what `write_tensors` wrote; no pickled object is loaded.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise CheckpointError(explained(error)) from None
    try:
        document = torch.load(content, weights_only=True, map_location=device)
    except Exception as error:  # pickle, zipfile and torch raise a dozen errors for bytes that are not tensors
        raise CheckpointError(f"{path}: damaged: {one_line(str(error))[:200]}") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: damaged: it has no tensors by name")
    return document
