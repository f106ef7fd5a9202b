"""`python -m benchmarks.cold.histories DATASET... --data data`: behaviours on new items, read by features or left out.

One model for each data set (system `features` of benchmarks/cold/systems.py) ranks the same test queries twice, among
the items alive that the user has not seen: with and without the behaviours on items that training did not meet.
Prints one Markdown table.

Symbols: I items.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.cold.systems import recipe_of, trained
from contract.bundle.tensors import SequenceSpec
from contract.command_line import run
from models.base import SequentialRecommender, Tensors
from training.data.prepare import Prepared, load_prepared
from training.data.times import HOUR_MS
from training.judging.candidates import Lifetimes, Seen
from training.judging.intervals import interval
from training.judging.metrics import Floats, better_and_equal, ndcg
from training.judging.scores import ModelScores
from training.rows.loader import dataset_facts, sequence_spec
from training.rows.split import Rows, split

_QUERIES: Final = 10_000
_PIECE: Final = 200
_SEED: Final = 5
_LEFT_OUT: Final = frozenset({"title"})  # as in benchmarks/cold/__main__.py


class KnownHistory(ModelScores):
    """A model's scores from histories without behaviours on new items.

    Args:
        model: in evaluation mode.
        prepared: the data.
        spec: the model's inputs.
        known: (I+1,) items that training met.
    """

    def __init__(
        self, model: SequentialRecommender, prepared: Prepared, spec: SequenceSpec, known: NDArray[np.bool_]
    ) -> None:
        kept = known[prepared.columns["items"]]
        columns = {name: column[kept] for name, column in prepared.columns.items()}
        super().__init__(model, replace(prepared, columns=columns), spec)
        self._before = np.concatenate(([0], np.cumsum(kept)))

    def _inputs(self, piece: Rows) -> Tensors:
        return super()._inputs(piece._replace(starts=self._before[piece.starts], stops=self._before[piece.stops]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge, print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold.histories", description=__doc__)
    parser.add_argument("datasets", nargs="+", help="names of prepared data sets")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of prepared data sets (default data)")
    parser.add_argument("--rows", type=int, default=20_000, help="rows per epoch (default 20,000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the training (default 0)")
    options = parser.parse_args(arguments)
    return run("benchmarks.cold.histories", lambda: _all(options))


def _all(options: argparse.Namespace) -> int:
    print("| Data | Seed | Queries | Number | New behaviours read | Left out | Difference, 95% interval |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.datasets:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                for line in _lines(options.data / name, Path(scratch), options.rows, seed):
                    print(f"| {name} | {seed} | {line}", flush=True)
    return 0


def _lines(folder: Path, scratch: Path, rows: int, seed: int) -> list[str]:
    prepared = load_prepared(folder)
    features = tuple(sorted(set(prepared.features) - _LEFT_OUT))
    one = trained(recipe_of("features", folder.name, features, rows, seed), folder.parent, scratch)
    spec, popularity = sequence_spec(one.model), dataset_facts(prepared, one.recipe).item_popularity
    queries = split(prepared, "time").test
    queries = queries.take(np.sort(np.random.default_rng(_SEED).permutation(len(queries.users))[:_QUERIES]))
    known = popularity > 0
    margin_ms = round(one.recipe.split.alive_margin_hours * HOUR_MS)
    read = _ndcg(ModelScores(one.model, prepared, spec), prepared, queries, margin_ms)
    left = _ndcg(KnownHistory(one.model, prepared, spec, known), prepared, queries, margin_ms)
    has_new = _windows_with_new(queries, prepared, known, spec.length)
    parts = {"all": np.ones_like(has_new), "with new behaviours": has_new}
    return [_line(name, read[chosen], left[chosen], queries.users[chosen]) for name, chosen in parts.items()]


def _ndcg(scorer: ModelScores, prepared: Prepared, queries: Rows, margin_ms: int) -> Floats:
    """Return NDCG@10 of each query among the items alive that the user has not seen."""
    lifetimes, seen, found = Lifetimes(prepared, margin_ms), Seen(prepared), []
    for start in range(0, len(queries.users), _PIECE):
        piece = queries.take(np.arange(start, min(start + _PIECE, len(queries.users))))
        candidates = lifetimes.alive(piece) & seen.unseen(piece)
        g, e = better_and_equal(scorer.all(piece)[:, 1:], piece.items - 1, candidates[:, 1:])
        found.append(ndcg(g, e, 10))
    return np.concatenate(found)


def _windows_with_new(rows: Rows, prepared: Prepared, known: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Return which queries have a behaviour on a new item among the newest that the model reads."""
    new_before = np.concatenate(([0], np.cumsum(~known[prepared.columns["items"]])))
    starts = np.maximum(rows.starts, rows.stops - length)
    return np.asarray(new_before[rows.stops] > new_before[starts], dtype=np.bool_)


def _line(name: str, read: Floats, left: Floats, users: NDArray[np.int64]) -> str:
    if not len(read):
        return f"{name} | 0 | | | |"
    _, places = np.unique(users, return_inverse=True)
    counts = np.bincount(places)
    ours, theirs = (np.bincount(places, weights=values) / counts for values in (read, left))
    mean, low, high = interval(ours, theirs)
    return f"{name} | {len(read)} | {ours.mean():.4f} | {theirs.mean():.4f} | {mean:+.4f} [{low:+.4f}, {high:+.4f}] |"


if __name__ == "__main__":
    sys.exit(main())
