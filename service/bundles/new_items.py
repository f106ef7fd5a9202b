"""The part of a bundle that scores items that its training never met: three graphs and the values of item features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contract.bundle import manifest as names
from contract.bundle.item_features import FeatureCoder
from contract.bundle.manifest import Manifest, NewItemSpec, TensorSpec
from service.bundles.arrays import Array
from service.bundles.files import BundleError
from service.bundles.onnx_guard import UnsafeGraph, refuse_unsafe

GRAPH_FILES = {"item": names.ITEM, "encode_new": names.ENCODE_NEW, "score_new": names.SCORE_NEW}
_ANY = "?"


@dataclass(frozen=True, eq=False)
class NewItems:
    """The graphs for new items, not yet loaded, and the way from raw features to their input.

    Attributes:
        spec: the manifest's.
        models: serialised graphs by name.
        coder: from raw features to codes.
    """

    spec: NewItemSpec
    models: Mapping[str, bytes]
    coder: FeatureCoder


def read_new_items(files: Mapping[str, bytes], manifest: Manifest) -> NewItems | None:
    """Return the checked part of a bundle; None if it has none.

    Raises:
        BundleError: a graph is unsafe or has other inputs and outputs than new items need, or features.json is wrong.
    """
    spec = manifest.new_items
    if spec is None:
        return None
    _check_signature(manifest, spec)
    for name in GRAPH_FILES.values():
        try:
            refuse_unsafe(files[name])
        except UnsafeGraph as error:
            raise BundleError(f"{name}: {error}") from error
    models = {graph: files[name] for graph, name in GRAPH_FILES.items()}
    return NewItems(spec, models, FeatureCoder(spec.features, _names(files[names.FEATURES], spec)))


def new_golden(manifest: Manifest) -> dict[str, TensorSpec]:
    """Return the arrays of golden.npz for new items, with C, B or M as the first dimension."""
    spec = manifest.new_items
    if spec is None:
        return {}
    items = next(one for one in spec.encode.inputs if one.name == "items")
    flat = {name: TensorSpec(name=name, dtype="int64", shape=("M",)) for name in ("new.candidates", "new.rows")}
    scores = TensorSpec(name="new.scores", dtype="float32", shape=("M",))
    codes = {f"item.{one.name}": one for one in spec.item.inputs}
    return {**codes, "new.items": items, **flat, "new.scores": scores}


def check_new_golden(arrays: Mapping[str, Array], manifest: Manifest, rows: int, requests: int) -> None:
    """Check the golden arrays for new items, of these rows and requests, against each other.

    Raises:
        BundleError: a shape, a dtype or an index does not fit, or a score is not finite.
    """
    spec = manifest.new_items
    if spec is None:
        return
    expected = new_golden(manifest)
    sizes = {"C": len(arrays[f"item.{spec.item.inputs[0].name}"]), "B": rows, "M": len(arrays["new.scores"])}
    for name, one in expected.items():
        if arrays[name].dtype != one.dtype or arrays[name].shape != (sizes[str(one.shape[0])], *one.shape[1:]):
            raise BundleError(f"{names.GOLDEN}: {name} is {arrays[name].dtype} {arrays[name].shape}")
    limits = {"new.items": manifest.item_count + 1 + sizes["C"], "new.candidates": sizes["C"], "new.rows": requests}
    limits |= {f"item.feature_{place}": one.cardinality for place, one in enumerate(spec.features)}
    if not all(sizes.values()) or not all(_within(arrays[name], limit) for name, limit in limits.items()):
        raise BundleError(f"{names.GOLDEN}: new items are none, or out of range")
    if not np.isfinite(arrays["new.scores"]).all():
        raise BundleError(f"{names.GOLDEN}: an expected score of a new item is not finite")


def _within(values: Array, limit: int) -> bool:
    return bool(((values >= 0) & (values < limit)).all())


def _check_signature(manifest: Manifest, spec: NewItemSpec) -> None:
    codes = [("int64", (f"feature_{place}", feature.values)) for place, feature in enumerate(spec.features)]
    found = [(one.dtype, (one.name, one.shape[-1])) for one in spec.item.inputs]
    rows = {one.name: one for one in spec.item.outputs}
    if found != codes or set(rows) != {"history", "candidates"} or not all(map(_is_row, rows.values())):
        raise BundleError("manifest: new_items: item does not take each feature's codes and give two rows")
    new = TensorSpec(name="new_items", dtype="float32", shape=("C", *rows["history"].shape[1:]))
    vectors = TensorSpec(name="vectors", dtype="float32", shape=("M", *rows["candidates"].shape[1:]))
    states = len(manifest.state)
    state, (_, *rest) = manifest.score.inputs[:states], manifest.score.inputs[states:]
    _check("encode inputs", spec.encode.inputs, (*manifest.encode.inputs, new))
    _check("encode outputs", spec.encode.outputs, manifest.encode.outputs)
    _check("score inputs", spec.score.inputs, (*state, vectors, *rest))
    _check("score outputs", spec.score.outputs, manifest.score.outputs)


def _is_row(spec: TensorSpec) -> bool:
    return spec.dtype == "float32" and len(spec.shape) == 2 and isinstance(spec.shape[1], int)


def _check(place: str, found: Sequence[TensorSpec], expected: Sequence[TensorSpec]) -> None:
    """Compare names, dtypes and shapes; symbolic dimensions may have any name."""
    plain = [
        [(one.name, one.dtype, tuple(size if isinstance(size, int) else _ANY for size in one.shape)) for one in specs]
        for specs in (found, expected)
    ]
    if plain[0] != plain[1]:
        raise BundleError(f"manifest: new_items: {place} are {plain[0]}, expected {plain[1]}"[:300])


def _names(content: bytes, spec: NewItemSpec) -> dict[str, list[str]]:
    document = json.loads(content)
    sizes = {feature.name: feature.cardinality - 1 for feature in spec.features if feature.kind != "number"}
    if not isinstance(document, dict) or {name: len(found) for name, found in document.items()} != sizes:
        raise BundleError(f"{names.FEATURES}: not one name for each code of every feature")
    if not all(isinstance(one, str) for found in document.values() for one in found):
        raise BundleError(f"{names.FEATURES}: a name is not a string")
    return document
