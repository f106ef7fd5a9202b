"""Many runs in one table: mean and spread over seeds, and how each system differs from the first one named.

Runs of one model and one recipe (but for the seed) are one system. Differences are paired by user: each user's metric
is averaged over that system's seeds and the user's queries, and users are drawn again with replacement. The interval
covers the choice of users, not of seeds; the spread over seeds stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from training.evaluate import METRICS
from training.metrics import Floats
from training.runs import RunDirectory, RunError

_RESAMPLES = 2000


@dataclass(frozen=True)
class System:
    """The runs of one model and recipe, by metric: one mean per seed, and one value per user over all seeds."""

    name: str
    seeds: list[int]
    by_seed: dict[str, Floats]
    by_user: dict[str, Floats]
    seconds: float


def compare(paths: list[Path], part: str, console: Console) -> list[System]:
    """Print the tables of some runs, the first one's system being what the others are held against.

    Raises:
        RunError: a run is incomplete, or the runs were not judged on the same queries.
    """
    systems = read_systems([RunDirectory(path) for path in paths], part)
    console.print(_means(systems, part))
    if len(systems) > 1:
        console.print(_differences(systems))
    return systems


def read_systems(runs: list[RunDirectory], part: str) -> list[System]:
    """Return the systems of some runs, in the order of their first run.

    Raises:
        RunError: as `compare`.
    """
    groups: dict[tuple[str, str], list[tuple[RunDirectory, dict[str, Any]]]] = {}
    judged = set()
    for run in runs:
        facts = run.facts()
        judged.add((facts["dataset_digest"], run.metrics()["protocol"]))
        groups.setdefault((facts["model"], facts["recipe_digest"]), []).append((run, facts))
    if len(judged) > 1:
        raise RunError("these runs were judged on different data or by different protocols; they cannot be compared")
    models = [model for model, _ in groups]
    names = [model if models.count(model) == 1 else f"{model} {digest[:6]}" for model, digest in groups]
    return [_system(name, members, part) for name, members in zip(names, groups.values(), strict=True)]


def interval(
    system: Floats, reference: Floats, seed: int = 0, resamples: int = _RESAMPLES
) -> tuple[float, float, float]:
    """Return the mean paired difference over users (U,), and its 95% percentile bootstrap interval."""
    difference = system - reference
    rng = np.random.default_rng(seed)
    drawn = np.array([difference[rng.integers(len(difference), size=len(difference))].mean() for _ in range(resamples)])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)


def _system(name: str, members: list[tuple[RunDirectory, dict[str, Any]]], part: str) -> System:
    queries = [run.per_query(part) for run, _ in members]
    return System(
        name,
        [int(facts["seed"]) for _, facts in members],
        {metric: np.array([one[metric].mean() for one in queries]) for metric in METRICS},
        {
            metric: np.mean([_per_user(one[metric], one["user"].astype(np.int64)) for one in queries], axis=0)
            for metric in METRICS
        },
        float(np.mean([facts["duration_seconds"] for _, facts in members])),
    )


def _per_user(values: Floats, users: NDArray[np.int64]) -> Floats:
    counts = np.bincount(users)
    means = np.bincount(users, weights=values) / np.maximum(counts, 1)
    return np.asarray(means[counts > 0], dtype=np.float64)


def _means(systems: list[System], part: str) -> Table:
    table = Table(title=f"{part}, mean over seeds", title_justify="left")
    table.add_column("system")
    table.add_column("seeds", justify="right")
    for metric in METRICS:
        table.add_column(metric.upper(), justify="right")
    table.add_column("seconds", justify="right")
    for one in systems:
        cells = [_spread(one.by_seed[metric]) for metric in METRICS]
        table.add_row(one.name, str(len(one.seeds)), *cells, f"{one.seconds:.0f}")
    return table


def _spread(values: Floats) -> str:
    return f"{values.mean():.4f}" + (f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else "")


def _differences(systems: list[System]) -> Table:
    reference = systems[0]
    table = Table(title=f"minus {reference.name}, paired by user", title_justify="left")
    table.add_column("system")
    table.add_column("metric")
    for name in ("difference", "95% from", "to"):
        table.add_column(name, justify="right")
    for one in systems[1:]:
        for place, metric in enumerate(METRICS):
            found = interval(one.by_user[metric], reference.by_user[metric])
            table.add_row("" if place else one.name, metric.upper(), *(f"{value:+.4f}" for value in found))
    return table
