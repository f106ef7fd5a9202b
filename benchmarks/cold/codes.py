"""Vocabulary-free item codes as item features: hashes of the id, and residual k-means codes of a content vector.

A model with such features and `id_dropout = 1` learns no table of ids. Hashes are the multi-hash embeddings of
https://github.com/xai-org/x-algorithm; residual codes are semantic ids.

Symbols: I items, d width of a content vector, k codes of an item.
"""

from __future__ import annotations

import json
import shutil
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.data.prepare import Prepared

HASHES: Final = 4
LEVELS, CENTRES = 3, 64
_ROUNDS: Final = 25
_WIDTH: Final = 32
_SEED: Final = 11

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


def write_with_codes(prepared: Prepared, popularity: NDArray[np.float32], out: Path) -> Path:
    """Write a copy of prepared data with the features `hashed` and `semantic`; return its folder.

    Args:
        prepared: the data.
        popularity: (I+1,) training interactions by item index: the centres are fitted to items that have one.
        out: the copy's folder.
    """
    shutil.copytree(prepared.directory, out, dirs_exist_ok=True)
    size = max(16, len(prepared.items) // 2)
    semantic = semantic_codes(content_vectors(prepared), popularity > 0)
    codes = {"hashed": hashed_codes(list(prepared.items.ids), size), "semantic": semantic}
    np.savez_compressed(out / "features.npz", **prepared.features, **codes)  # type: ignore[arg-type]
    described: dict[str, Any] = json.loads((prepared.directory / "features.json").read_text(encoding="utf-8"))
    for name, largest in (("hashed", HASHES * size), ("semantic", LEVELS * CENTRES)):
        names = ["", *map(str, range(largest))]
        described[name] = {"cardinality": largest + 1, "width": codes[name].shape[1], "names": names}
    (out / "features.json").write_text(json.dumps(described), encoding="utf-8")
    return out


def hashed_codes(item_ids: list[str], size: int) -> Codes:
    """Return k codes for each item (I+1, k), the n-th in a part of `size` codes of its own."""
    codes = np.zeros((len(item_ids) + 1, HASHES), dtype=np.int64)
    for row, item in enumerate(item_ids, start=1):
        digest = blake2b(item.encode(), digest_size=8 * HASHES).digest()
        drawn = np.frombuffer(digest, dtype="<u8") % np.uint64(size)
        codes[row] = 1 + np.arange(HASHES) * size + drawn.astype(np.int64)
    return codes


def content_vectors(prepared: Prepared) -> Floats:
    """Return a vector for each item (I+1, d): its ready-made embedding, or its features' largest singular vectors."""
    embeddings = [one for one in getattr(prepared, "numbers", {}).values() if one.ndim == 2]
    if embeddings:
        return np.concatenate(embeddings, axis=1).astype(np.float64)
    blocks = [_one_hot(prepared.features[name], prepared.cardinalities[name]) for name in sorted(prepared.features)]
    wide = np.concatenate(blocks, axis=1)
    rng = np.random.default_rng(_SEED)
    basis, _ = np.linalg.qr(wide @ (wide.T @ (wide @ rng.standard_normal((wide.shape[1], _WIDTH)))))
    left, values, _ = np.linalg.svd(basis.T @ wide, full_matrices=False)
    return np.asarray(basis @ left * values, dtype=np.float64)


def semantic_codes(vectors: Floats, known: NDArray[np.bool_]) -> Codes:
    """Return residual k-means codes (I+1, LEVELS) of content vectors; padding has none."""
    rest, rng = vectors.copy(), np.random.default_rng(_SEED)
    codes = np.zeros((len(vectors), LEVELS), dtype=np.int64)
    for level in range(LEVELS):
        centres = _k_means(rest[known], rng)
        nearest = _nearest(rest, centres)
        codes[:, level] = 1 + level * CENTRES + nearest
        rest -= centres[nearest]
    codes[0] = 0
    return codes


def _one_hot(codes: Codes, cardinality: int) -> Floats:
    """Return the mean of the values' unit vectors, scaled so that rare values count as much as frequent ones."""
    table = np.zeros((len(codes), cardinality))
    rows = np.repeat(np.arange(len(codes)), codes.shape[1])
    np.add.at(table, (rows, codes.ravel()), 1.0)
    table[:, 0] = 0.0
    table /= np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    return np.asarray(table / np.sqrt(np.maximum(table.sum(axis=0), 1.0)), dtype=np.float64)


def _k_means(points: Floats, rng: np.random.Generator) -> Floats:
    centres = points[rng.choice(len(points), CENTRES, replace=len(points) < CENTRES)].copy()
    for _ in range(_ROUNDS):
        nearest = _nearest(points, centres)
        counts = np.bincount(nearest, minlength=CENTRES)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, points)
        centres[counts > 0] = sums[counts > 0] / counts[counts > 0, None]
    return centres


def _nearest(points: Floats, centres: Floats) -> Codes:
    distances = (centres * centres).sum(axis=1) - 2 * points @ centres.T
    return np.asarray(distances.argmin(axis=1), dtype=np.int64)
