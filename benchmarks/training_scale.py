"""Memory and speed of training over a large catalogue: all items against samples, dense against sparse tables.

python -m benchmarks.training_scale --items 1000000

Each way trains SASRec in a process of its own on one thread, with the loader, the loss and the optimiser of training,
on made-up data: 20 behaviours for each of 60,000 users, an item's popularity falling as 1 / rank. Rounds take turns.
Times are CPU time of the process; memory is its peak, with that of the data and the untrained model beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.figures import median, medians
from benchmarks.markdown import table
from contract.bundle.vocabulary import Vocabulary
from contract.command_line import CommandError, run
from models.base import SequentialRecommender
from training.data.kept import COLUMNS
from training.data.prepare import Prepared
from training.fitting.allocator import keep_freed_memory
from training.fitting.optimiser import Optimiser
from training.recipe import Recipe, parse_recipe
from training.rows.loader import Loader, dataset_facts, sequence_spec
from training.rows.split import leave_last_out
from training.train import build

_USERS, _EVENTS, _SEED, _WARM = 60_000, 20, 20_261, 2
_MOST: Final = 10_000_000
_CONFIG: Final[dict[str, Any]] = {"length": 20, "width": 64, "blocks": 1, "inner": 128, "popularity_bias": True}

WAYS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "all items": ("full", {}),
    "100 negatives a row": ("logq", {"negatives": 100}),
    "1,024 shared": ("logq", {"negatives": 1024, "negatives_from": "shared"}),
    "mixed": ("logq", {"negatives": 1024, "negatives_from": "mixed"}),
    "mixed, sparse_adam": ("logq", {"negatives": 1024, "negatives_from": "mixed", "tables": "sparse_adam"}),
    "mixed, rowwise_adagrad": ("logq", {"negatives": 1024, "negatives_from": "mixed", "tables": "rowwise_adagrad"}),
    "gbce, rowwise_adagrad": ("gbce", {"negatives": 256, "negatives_from": "shared", "tables": "rowwise_adagrad"}),
}
"""Ways to train by name: the objective and the keys of [training]."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all ways; return 0, or 1 after printing one line with the reason."""
    options = _parser().parse_args(arguments)
    return run("benchmarks.training_scale", lambda: _measure(options))


def recipe_of(way: str, batch: int) -> Recipe:
    """Return the recipe of a way."""
    objective, training = WAYS[way]
    document = {
        "model": "sasrec",
        "config": _CONFIG | {"objective": objective},
        "training": {"batch": batch} | training,
    }
    return parse_recipe({"dataset": "made-up"} | document, way)


def made_up(items: int, users: int = _USERS) -> Prepared:
    """Return prepared data in memory, whose item popularity falls as 1 / rank."""
    rng = np.random.default_rng(_SEED)
    chances = 1 / np.arange(1, items + 1)
    drawn = np.searchsorted(np.cumsum(chances) / chances.sum(), rng.random(users * _EVENTS)) + 1
    columns = {name: np.zeros(len(drawn), dtype=np.int64) for name in COLUMNS}
    columns |= {"items": drawn.astype(np.int64), "times_ms": np.tile(np.arange(_EVENTS, dtype=np.int64), users)}
    vocabulary = Vocabulary([f"item-{index}" for index in range(1, items + 1)])
    names = Vocabulary([f"user-{index}" for index in range(1, users + 1)])
    starts = np.arange(users + 1, dtype=np.int64) * _EVENTS
    return Prepared(Path("made-up"), columns, starts, vocabulary, names, {}, {}, {})


def train_some(recipe: Recipe, prepared: Prepared, steps: int) -> dict[str, float]:
    """Return rows per CPU second and milliseconds of CPU per step, medians over steps after two to warm up."""
    model, loader = _model(recipe, prepared)
    before = _peak()
    optimiser = Optimiser(model, recipe.training)
    rng = np.random.default_rng(_SEED)
    order = loader.order(rng, recipe.training.batch * (steps + _WARM), balanced=False)
    spent, started = [], time.process_time()
    for batch in loader.training_batches(rng, order, recipe.training):
        loss = model.loss(batch)
        if not np.isfinite(float(loss.detach())):
            raise CommandError("the loss is not finite")
        optimiser.step(loss, 1e-3)
        now = time.process_time()
        spent.append(now - started)
        started = now
    step = median(spent[_WARM:])
    return {"rows": recipe.training.batch / step, "step_ms": 1e3 * step, "before_mib": before, "peak_mib": _peak()}


def _model(recipe: Recipe, prepared: Prepared) -> tuple[SequentialRecommender, Loader]:
    torch.manual_seed(_SEED)
    model = build(recipe, dataset_facts(prepared, recipe)).train()
    return model, Loader(prepared, sequence_spec(model), leave_last_out(prepared).train)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _measure(options: argparse.Namespace) -> int:
    if not 100 <= options.items <= _MOST:
        raise CommandError(f"--items {options.items}: from 100 to {_MOST}")
    if options.way:
        torch.set_num_threads(1)
        keep_freed_memory()
        print(json.dumps(train_some(recipe_of(options.way, options.batch), made_up(options.items), options.steps)))
        return 0
    rounds = [{way: _apart(way, options) for way in WAYS} for _ in range(options.rounds)]
    print(_table({way: medians([one[way] for one in rounds]) for way in WAYS}))
    return 0


def _apart(way: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure one way in a process of its own, so that its peak is its own."""
    sizes = [f"--{name}={getattr(options, name)}" for name in ("items", "batch", "steps")]
    command = [sys.executable, "-m", "benchmarks.training_scale", "--way", way, *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"{way}: {(done.stderr.splitlines() or ['no output'])[-1]}")
    return dict(json.loads(done.stdout))


def _table(measured: dict[str, dict[str, float]]) -> str:
    slowest = min(one["rows"] for one in measured.values())
    rows = [
        (
            way, f"{one['rows']:,.0f}", f"{one['rows'] / slowest:,.0f}", f"{one['step_ms']:,.0f} ms",
            f"{one['peak_mib']:,.0f} MiB", f"{one['before_mib']:,.0f} MiB",
        )
        for way, one in measured.items()
    ]  # fmt: skip
    return "\n".join(table(("Way", "rows/s of CPU", "ratio", "CPU a step", "peak memory", "before"), rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_scale", description="Measure training over a large catalogue."
    )
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the catalogue (default: 1,000,000)")
    parser.add_argument("--batch", type=int, default=128, help="rows per step (default: 128)")
    parser.add_argument("--steps", type=int, default=10, help="steps that are measured (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, which take turns (default: 3)")
    parser.add_argument("--way", choices=list(WAYS), help="measure only this one, in this process; prints JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
