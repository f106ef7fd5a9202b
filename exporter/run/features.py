"""The features of a run's items, as its bundle describes them to callers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError

from contract.bundle.item_features import FeatureKind, FeatureSpec
from contract.bundle.manifest import FEATURES
from contract.files import BadFileError, read_object
from exporter.errors import ExportError, cause_of
from models.base import SequentialRecommender
from models.parts.item_feature import ItemFeature

_TITLE: Final = "title"  # the one text that every source splits into words


@dataclass(frozen=True)
class RunFeatures:
    """The features from which a model describes new items, in the order of `described_by`.

    Attributes:
        specs: one for each.
        names: the values of each by their codes from 1; none for numbers.
    """

    specs: tuple[FeatureSpec, ...]
    names: Mapping[str, Sequence[str]]

    def content(self) -> bytes:
        """Return the bundle's features.json."""
        return json.dumps(dict(self.names), ensure_ascii=False).encode()


def read_features(directory: Path, model: SequentialRecommender) -> RunFeatures | None:
    """Read the run's features.json; None if the model does not describe new items, or the run has no such file.

    Raises:
        ExportError: it does not fit the model.
    """
    path = directory / FEATURES
    if not model.described_by or not path.is_file():
        return None
    try:
        described = read_object(path)
        specs = tuple(_spec(name, described[name], model) for name in model.described_by)
        names = {spec.name: described[spec.name]["names"][1:] for spec in specs if spec.kind != "number"}
    except (BadFileError, KeyError, TypeError, ValidationError) as error:
        raise ExportError(f"{path}: {cause_of(error)}") from error
    for spec in specs:
        if spec.kind != "number" and len(names[spec.name]) != spec.cardinality - 1:
            raise ExportError(f"{path}: {spec.name} has not one name for each code of the checkpoint")
    return RunFeatures(specs, names)


def _spec(name: str, described: Mapping[str, Any], model: SequentialRecommender) -> FeatureSpec:  # Any: JSON
    feature = next(one for one in model.modules() if isinstance(one, ItemFeature) and one.name == name)
    values = feature.codes.shape[1]
    document = {"name": name, "kind": _kind(name, described, values), "values": values}
    document |= {"cardinality": feature.table.num_embeddings, "edges": tuple(described.get("edges", ()))}
    return FeatureSpec.model_validate(document)


def _kind(name: str, described: Mapping[str, Any], values: int) -> FeatureKind:  # Any: JSON
    """Return how a raw value is read: as the mapping named it, or what the codes tell of a known data set."""
    named = described.get("kind")
    if named is not None:
        return cast(FeatureKind, named)  # FeatureSpec checks it
    if "edges" in described:
        return "number"
    if name == _TITLE:
        return "words"
    return "category" if values == 1 else "list"
