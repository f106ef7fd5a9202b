"""Many runs in one table: mean and spread over seeds, and each system's difference to the first one.

Runs of one model and one recipe (but for the seed) are one system. Differences are paired by user: each user's metric
is averaged over that system's seeds and the user's queries, and users are drawn again with replacement. The interval
covers the choice of users, not of seeds; the spread over seeds is printed next to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from training.judging.metrics import Floats
from training.runs import RunDirectory, RunError

_RESAMPLES = 2000


@dataclass(frozen=True)
class System:
    """The runs of one model and recipe.

    Attributes:
        by_seed: by metric (`view.metric` for other views than the main one), one mean per seed.
        by_user: by metric, one value per user over all seeds; metrics that are not plain means over users have none.
    """

    name: str
    seeds: list[int]
    by_seed: dict[str, Floats]
    by_user: dict[str, Floats]
    seconds: float


def compare(paths: list[Path], part: str, console: Console, view: str = "") -> list[System]:
    """Print the tables of some runs, with differences to the system of the first one.

    Args:
        paths: run directories.
        part: valid or test.
        console: the output.
        view: of training.judging.evaluate; the main one by default.

    Raises:
        RunError: one of them is not a run, none is complete, or they were evaluated on different queries.
    """
    systems = read_systems(_complete([RunDirectory(path) for path in paths], console), part)
    metrics = [name for name in systems[0].by_seed if name.rpartition(".")[0] == view]
    if not metrics:
        raise RunError(f"these runs have no view {view!r}")
    console.print(_means(systems, part, metrics))
    if len(systems) > 1:
        console.print(_differences(systems, metrics))
    return systems


def _complete(runs: list[RunDirectory], console: Console) -> list[RunDirectory]:
    """Return the finished runs; prints the names of the others."""
    for run in runs:
        if not run.is_begun:
            raise RunError(f"{run.path} is not a run directory: it has no recipe.json")
        if not run.is_complete:
            console.print(f"left out because they are not complete: {run.path}", soft_wrap=True)
    complete = [run for run in runs if run.is_complete]
    if not complete:
        raise RunError("none of these runs is complete; continue with: python -m training train --resume RUN")
    return complete


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
        raise RunError("these runs were evaluated on different data or by different protocols; they cannot be compared")
    models = [model for model, _ in groups]
    names = [model if models.count(model) == 1 else f"{model} {digest[:6]}" for model, digest in groups]
    return [system_of(name, members, part) for name, members in zip(names, groups.values(), strict=True)]


def interval(
    system: Floats, reference: Floats, seed: int = 0, resamples: int = _RESAMPLES
) -> tuple[float, float, float]:
    """Return the mean paired difference over users (U,), and its 95% percentile bootstrap interval."""
    difference = system - reference
    rng = np.random.default_rng(seed)
    drawn = np.array([difference[rng.integers(len(difference), size=len(difference))].mean() for _ in range(resamples)])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)


def system_of(name: str, members: list[tuple[RunDirectory, dict[str, Any]]], part: str) -> System:
    """Return one system from its runs and their run.json."""
    means = [run.metrics()[part] for run, _ in members]
    queries = [per_user_means(run.per_query(part)) for run, _ in members]
    return System(
        name,
        [int(facts["seed"]) for _, facts in members],
        {metric: np.array([one[metric] for one in means]) for metric in means[0]},
        {metric: np.mean([one[metric] for one in queries], axis=0) for metric in queries[0]},
        float(np.mean([facts["duration_seconds"] for _, facts in members])),
    )


def per_user_means(columns: dict[str, Floats]) -> dict[str, Floats]:
    """Return each user's mean over their queries, for metrics that are plain means; users in index order."""
    return {metric: _by_user(columns, metric) for metric in _plain(columns)}


def _plain(columns: dict[str, Floats]) -> list[str]:
    """Return the metrics that are plain means over queries."""
    metrics = [name for name in columns if _own(name) != "user" and "weight." not in name]
    return [name for name in metrics if _beside(name, f"weight.{_own(name)}") not in columns]


def _by_user(columns: dict[str, Floats], metric: str) -> Floats:
    values, users = columns[metric], columns[_beside(metric, "user")].astype(np.int64)
    defined = ~np.isnan(values)
    return _per_user(values[defined], users[defined])


def _own(name: str) -> str:
    return name.rpartition(".")[2]


def _beside(metric: str, column: str) -> str:
    """Return the name of another column of a metric's view."""
    view, dot, _ = metric.rpartition(".")
    return f"{view}{dot}{column}"


def _per_user(values: Floats, users: NDArray[np.int64]) -> Floats:
    counts = np.bincount(users)
    means = np.bincount(users, weights=values) / np.maximum(counts, 1)
    return np.asarray(means[counts > 0], dtype=np.float64)


def _means(systems: list[System], part: str, metrics: list[str]) -> Table:
    table = Table(title=f"{part}, mean over seeds", title_justify="left")
    table.add_column("system")
    table.add_column("seeds", justify="right")
    for metric in metrics:
        table.add_column(metric.upper(), justify="right")
    table.add_column("seconds", justify="right")
    for one in systems:
        cells = [_spread(one.by_seed[metric]) for metric in metrics]
        table.add_row(one.name, str(len(one.seeds)), *cells, f"{one.seconds:.0f}")
    return table


def _spread(values: Floats) -> str:
    return f"{values.mean():.4f}" + (f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else "")


def _differences(systems: list[System], metrics: list[str]) -> Table:
    reference = systems[0]
    table = Table(title=f"minus {reference.name}, paired by user", title_justify="left")
    table.add_column("system")
    table.add_column("metric")
    for name in ("difference", "95% from", "to"):
        table.add_column(name, justify="right")
    for one in systems[1:]:
        for place, metric in enumerate(name for name in metrics if name in reference.by_user):
            found = interval(one.by_user[metric], reference.by_user[metric])
            table.add_row("" if place else one.name, metric.upper(), *(f"{value:+.4f}" for value in found))
    return table
