"""`python -m benchmarks.cold DATASET... --data data`: new items from features, by the prior, at random.

The data sets must be prepared (`python -m training prepare`). Each system is trained on the split by time, on one
thread, and ranks the same test queries. Prints one Markdown table for each data set.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.cold.codes import write_with_codes
from benchmarks.cold.judge import VIEWS, WAYS, Judged, judge
from benchmarks.cold.systems import SYSTEMS, Trained, recipe_of, trained
from benchmarks.markdown import table
from contract.command_line import run
from training.data.prepare import Prepared, load_prepared
from training.judging.intervals import Interval, interval
from training.judging.metrics import Floats
from training.judging.scores import ModelScores
from training.rows.loader import dataset_facts, sequence_spec
from training.rows.split import split

_HEAD = ("system", "placed", *(f"{view}" for view in VIEWS), "CPU s")
_LEFT_OUT = frozenset({"title"})  # many words, each of few items: a third of the time for little


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge, print; returns 0."""
    options = _parser().parse_args(arguments)
    return run("benchmarks.cold", lambda: _all(options))


def _all(options: argparse.Namespace) -> int:
    for name in options.datasets:
        with tempfile.TemporaryDirectory() as scratch:
            print(_table(options.data / name, Path(scratch), options.rows, options.seed), flush=True)
    return 0


def _table(folder: Path, scratch: Path, rows: int, seed: int) -> str:
    prepared = load_prepared(folder)
    features = tuple(sorted(set(prepared.features) - _LEFT_OUT))
    probe = recipe_of("features", folder.name, features, rows, seed)
    popularity = dataset_facts(prepared, probe).item_popularity
    data = scratch / "data"
    write_with_codes(prepared, popularity, data / folder.name)
    coded = load_prepared(data / folder.name)
    lines, reference = [], None
    for system in SYSTEMS:
        one = trained(recipe_of(system, folder.name, features, rows, seed), data, scratch / "runs")
        found = _judged(one, coded, popularity)
        reference = found if system == "features" else reference
        ways = WAYS if system == "features" else ("features",)
        lines += [_line(system, way, found, one) for way in ways]
    assert reference is not None
    differences = _differences(reference)
    return "\n".join([_title(folder.name, reference), "", *table(_HEAD, lines), "", differences, ""])


def _judged(one: Trained, prepared: Prepared, popularity: np.ndarray) -> Judged:
    scorer = ModelScores(one.model, prepared, sequence_spec(one.model))
    rows = split(prepared, "time").test
    return judge(scorer, prepared, one.recipe.split, rows, popularity, one.quantile)


def _title(name: str, found: Judged) -> str:
    return (
        f"### {name}\n\n{found.candidates:,.0f} items alive and unseen, {found.new_candidates:.1%} of them new; "
        f"{found.new_share:.1%} of the test clicks are on new items."
    )


def _line(system: str, way: str, found: Judged, one: Trained) -> list[str]:
    cells = [_mean(found, way, view) for view in VIEWS]
    placed = f"prior ({one.quantile:.2f})" if way == "prior" else way
    return [system, placed, *cells, f"{one.cpu_seconds:.0f}"]


def _mean(found: Judged, way: str, view: str) -> str:
    values = found.values[way, view]
    mean, low, high = _interval(values, np.zeros_like(values), found.users[view])
    return f"{mean:.4f} [{low:.4f}, {high:.4f}]".replace("0.", ".")


def _differences(found: Judged) -> str:
    told = []
    for other in ("prior", "random", "last"):
        for view in ("new", "all"):
            mean, low, high = _interval(found.values["features", view], found.values[other, view], found.users[view])
            told.append(f"- features minus {other}, {view}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]")
    mean, low, high = _interval(found.values["prior", "all"], found.values["last", "all"], found.users["all"])
    return "\n".join([*told, f"- prior minus last, all: {mean:+.4f} [{low:+.4f}, {high:+.4f}]"])


def _interval(system: Floats, other: Floats, users: np.ndarray) -> Interval:
    """Return the mean difference over users, each the mean of the user's queries, and its interval."""
    _, places = np.unique(users, return_inverse=True)
    counts = np.bincount(places)
    system, other = (np.bincount(places, weights=values) / counts for values in (system, other))
    return interval(system, other)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold", description=__doc__)
    parser.add_argument("datasets", nargs="+", help="names of prepared data sets")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of prepared data sets (default data)")
    parser.add_argument("--rows", type=int, default=30_000, help="rows per epoch (default 30,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
