"""Many runs in one table: mean and spread over seeds, baselines, and each system's difference to the first one.

Runs of one model and one recipe (but for the seed) are one system. Differences are paired by user
(training/judging/intervals.py); with several seeds, their intervals cover seeds as well as users.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from training.judging.document import about_repeats
from training.judging.intervals import Interval, interval, interval_with_seeds, per_user_means
from training.judging.metrics import Floats
from training.judging.ranking import below
from training.runs import RunDirectory, RunError

_ALL: Final = "all"
"""The name of the main view on the command line; in metrics.json it has none."""

_FORMERLY: Final = (
    ("history items included", "with and without those of the history"),
    ("whether they were viewed long", "their labels"),
)
"""Words of older runs for protocols that have others now."""


@dataclass(frozen=True)
class System:
    """The runs of one model and recipe.

    Attributes:
        by_seed: by metric (`view.metric` for other views than the main one), one mean per seed.
        by_user: by metric, (S, U), a value per seed and user; metrics that are not plain means over users have none.
        document: metrics.json of the first run.
    """

    name: str
    seeds: list[int]
    by_seed: dict[str, Floats]
    by_user: dict[str, Floats]
    seconds: float
    document: dict[str, Any] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Return the mean over seeds by metric."""
        return {metric: float(values.mean()) for metric, values in self.by_seed.items()}


def compare(paths: list[Path], part: str, console: Console, view: str | None = None) -> list[System]:
    """Print the tables of some runs, with differences to the system of the first one.

    Args:
        paths: run directories.
        part: valid or test.
        console: the output.
        view: of training.judging.evaluate, `all` for the main one; None: both rankings, the one that comes first first.

    Raises:
        RunError: one of them is not a run, none is complete, or they were evaluated on different queries.
    """
    systems = read_systems(_complete([RunDirectory(path) for path in paths], console), part)
    views = _views(systems, console) if view is None else [view.removeprefix(_ALL)]
    for name in views:
        console.print(_means(systems, part, name))
    if len(systems) > 1:
        over = "seeds and users" if any(len(one.seeds) > 1 for one in systems) else "users"
        title = f"{_named(views[0])}, minus {systems[0].name}, paired by user, 95% interval over {over}"
        console.print(title, style="italic", soft_wrap=True)
        console.print(_differences(systems, views[0]))
    if part == "test":
        for line in _verdicts(systems):
            console.print(line, style="bold red", soft_wrap=True)
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
    digests, protocols = set(), set()
    for run in runs:
        facts = run.facts()
        if facts.get("fit") == "all":
            raise RunError(f"{run.path} has learnt every row; compare the run that judges it: {facts['validated_by']}")
        digests.add(facts["dataset_digest"])
        protocols.add(str(run.metrics()["protocol"]))
        groups.setdefault((facts["model"], facts["recipe_digest"]), []).append((run, facts))
    if len(digests) > 1 or not _same(protocols):
        raise RunError("these runs were evaluated on different data or by different protocols; they cannot be compared")
    models = [model for model, _ in groups]
    names = [model if models.count(model) == 1 else f"{model} {digest[:6]}" for model, digest in groups]
    return [system_of(name, members, part) for name, members in zip(names, groups.values(), strict=True)]


def _same(protocols: Iterable[str]) -> bool:
    """Whether protocols in words are the same; older runs have the same main view and lack the other ranking."""
    known = {_in_todays_words(one) for one in protocols}
    if not all("items alive" in one for one in known):
        known = {re.sub(r"; full ranking over items alive[^;]*", "", one) for one in known}
    return len(known) == 1


def _in_todays_words(protocol: str) -> str:
    for formerly, now in _FORMERLY:
        protocol = protocol.replace(formerly, now)
    return protocol


def system_of(name: str, members: list[tuple[RunDirectory, dict[str, Any]]], part: str) -> System:
    """Return one system from its runs and their run.json."""
    documents = [run.metrics() for run, _ in members]
    means = [dict(document[part]) for document in documents]
    queries = [per_user_means(run.per_query(part)) for run, _ in members]
    return System(
        name,
        [int(facts["seed"]) for _, facts in members],
        {metric: np.array([one[metric] for one in means]) for metric in means[0]},
        {metric: np.array([one[metric] for one in queries]) for metric in queries[0]},
        float(np.mean([facts["duration_seconds"] for _, facts in members])),
        dict(documents[0]),
    )


def _views(systems: list[System], console: Console) -> list[str]:
    """Return the view that comes first and the other ranking, or the main one if a run does not have them."""
    if not all("first" in one.document for one in systems):
        return [""]
    first, other = systems[0].document["first"], systems[0].document["other"]
    if other is not None:
        console.print(about_repeats(systems[0].document), soft_wrap=True)
    return [first] if other is None else [first, other]


def _named(view: str) -> str:
    return view or _ALL


def _metrics(systems: list[System], view: str) -> list[str]:
    metrics = [name for name in systems[0].by_seed if name.rpartition(".")[0] == view]
    if not metrics or not all(set(metrics) <= set(one.by_seed) for one in systems):
        raise RunError(
            f"these runs have no view {_named(view)!r}; evaluate older runs again: python -m training evaluate"
        )
    return metrics


def _own(metric: str) -> str:
    """Return a metric's name without its view."""
    return metric.rpartition(".")[2].upper()


def _means(systems: list[System], part: str, view: str) -> Table:
    metrics = _metrics(systems, view)
    table = Table(title=f"{part}, {_named(view)}, mean over seeds", title_justify="left")
    table.add_column("system")
    table.add_column("seeds", justify="right")
    for metric in metrics:
        table.add_column(_own(metric), justify="right")
    table.add_column("seconds", justify="right")
    for one in systems:
        cells = [_spread(one.by_seed[metric]) for metric in metrics]
        failed = part == "test" and bool(_below(one)) and one.document["first"] == view
        table.add_row(one.name, str(len(one.seeds)), *cells, f"{one.seconds:.0f}", style="red" if failed else None)
    for name, values in (systems[0].document.get("baselines", {}) if part == "test" else {}).items():
        table.add_row(name, "", *(f"{values[metric]:.4f}" for metric in metrics), "", style="dim")
    return table


def _spread(values: Floats) -> str:
    return f"{values.mean():.4f}" + (f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else "")


def _differences(systems: list[System], view: str) -> Table:
    reference = systems[0]
    table = Table()
    table.add_column("system")
    table.add_column("metric")
    for name in ("difference", "from", "to"):
        table.add_column(name, justify="right")
    metrics = [name for name in _metrics(systems, view) if name in reference.by_user]
    for one in systems[1:]:
        for place, metric in enumerate(metrics):
            found = difference(one.by_user[metric], reference.by_user[metric])
            table.add_row("" if place else one.name, _own(metric), *(f"{value:+.4f}" for value in found))
    return table


def difference(system: Floats, reference: Floats) -> Interval:
    """Return the difference of two systems (S, U), over seeds and users if one of them has several seeds."""
    if max(len(system), len(reference)) > 1:
        return interval_with_seeds(system, reference)
    return interval(system[0], reference[0])


def _below(system: System) -> list[str]:
    document = system.document
    if "baselines" not in document:
        return []
    return below(system.means(), document["baselines"], document["first_metric"])


def _verdicts(systems: list[System]) -> Iterable[str]:
    for one in systems:
        for name in _below(one):
            metric = one.document["first_metric"]
            reached, needed = one.means()[metric], one.document["baselines"][name][metric]
            yield f"{one.name} is below {name}: {metric} {reached:.4f}, {name} {needed:.4f}"
