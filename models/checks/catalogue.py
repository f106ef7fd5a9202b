"""A small made-up catalogue with users, their histories and item features: the data of the checks.

Symbols: B rows, T length, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES
from contract.bundle.tensors import windows
from models.base import DatasetFacts, InteractionLog, SequentialRecommender, Tensors

ITEMS: Final = 30
USERS: Final = 10
MORE_ITEMS: Final = 7
MORE_USERS: Final = 4
_VALUES: Final = 9
_START_MS: Final = 10**12

History = dict[str, NDArray[np.int64]]


def facts(features: Sequence[str] = ()) -> DatasetFacts:
    """Return the facts of the catalogue; every item's count is its own.

    Args:
        features: item features beside `genres` (up to three values) and `year` (one value).
    """
    random = np.random.default_rng(5)
    genres = random.integers(1, 6, (ITEMS + 1, 3))
    genres[::2, 2] = 0
    genres[0] = 0
    year = random.integers(0, 9, (ITEMS + 1, 1))
    popularity = random.permutation(np.arange(ITEMS + 1)).astype(np.float32)
    popularity[0] = 0
    log = InteractionLog(
        random.integers(1, USERS + 1, 60), random.integers(1, ITEMS + 1, 60), _START_MS + 10**7 * np.arange(60)
    )
    more = {name: random.integers(0, _VALUES, (ITEMS + 1, 1)) for name in features if name not in ("genres", "year")}
    codes, sizes = {"genres": genres, "year": year} | more, {"genres": 6, "year": 9} | dict.fromkeys(more, _VALUES)
    return DatasetFacts(ITEMS, USERS, popularity, codes, sizes, log)


def grown_facts(features: Sequence[str] = ()) -> DatasetFacts:
    """Return the facts a day later: more items, users and feature values; the new users met the new items."""
    old = facts(features)
    random = np.random.default_rng(6)
    sizes = {name: size + 3 for name, size in old.cardinalities.items()}
    codes = {
        name: np.concatenate((values, random.integers(1, sizes[name], (MORE_ITEMS, values.shape[1]))))
        for name, values in old.item_features.items()
    }
    log = InteractionLog(
        np.concatenate(([USERS + 1, USERS + 2], old.log.users)),
        np.concatenate(([ITEMS + 1, ITEMS + 2], old.log.items)),
        np.concatenate(([_START_MS - 2, _START_MS - 1], old.log.times_ms)),
    )
    popularity = np.concatenate((old.item_popularity, np.arange(1, MORE_ITEMS + 1, dtype=np.float32)))
    return DatasetFacts(ITEMS + MORE_ITEMS, USERS + MORE_USERS, popularity, codes, sizes, log)


def facts_with_new(item: int, features: Sequence[str] = ()) -> DatasetFacts:
    """Return the facts of the catalogue, but that no one has met an item."""
    known = facts(features)
    popularity = known.item_popularity.copy()
    popularity[item] = 0
    return replace(known, item_popularity=popularity)


def seed(number: int) -> None:
    """Seed torch on the CPU. `torch.manual_seed` takes half a millisecond, for devices that the checks do not use."""
    torch.default_generator.manual_seed(number)


def histories(lengths: Sequence[int], seed: int = 0) -> list[History]:
    """Return the behaviours of one user for each length, oldest first."""
    random, more = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    return [
        {
            "items": random.integers(1, ITEMS + 1, n),
            "times": np.cumsum(random.integers(0, 10**8, n)) + _START_MS,
            "values": random.integers(1, 11, n) * 5,
            "actions": more.choice([ACTION_CODES["click"], ACTION_CODES["like"]], n).astype(np.int64),
            "plays": more.integers(0, 60_000, n),
        }
        for n in lengths
    ]


def inputs_of(model: SequentialRecommender, rows: Sequence[History], users: Sequence[int]) -> Tensors:
    """Return what `encode` reads, cut and padded as in serving."""
    ends = np.cumsum([len(row["items"]) for row in rows])
    starts = np.concatenate(([0], ends[:-1])).astype(np.int64)
    flat: dict[str, Any] = {name: np.concatenate([row[name] for row in rows]) for name in model.columns}
    inputs = {name: torch.from_numpy(array) for name, array in windows(flat, starts, ends, model.length).items()}
    newest = [int(row["times"][-1]) if len(row["times"]) else _START_MS for row in rows]
    per_row = {"user": torch.tensor(list(users)), "request_time": torch.tensor(newest) + 3_600_000}
    return inputs | {name: per_row[name] for name in model.row_inputs}


@torch.no_grad()
def scores_of(model: SequentialRecommender, inputs: Tensors, items: int = ITEMS) -> torch.Tensor:
    """Return scores of every item by `score`, (B, I)."""
    B = len(inputs["items"])
    candidates = torch.arange(1, items + 1).repeat(B)
    rows = torch.arange(B).repeat_interleave(items)
    return model.score(model.encode(inputs).state, candidates, rows).scores.view(B, items)
