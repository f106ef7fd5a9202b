"""The same search budget for every system of a plan: Optuna instead of the plan's list of trials.

The space of a system has the values of its trials: a range from the smallest to the largest learning rate, and the
choices of every other key. The best recipe of each is in `<runs>/searches/<system>/best.toml`.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from benchmarks.tables.plan import Plan, SystemPlan, job_of, slug
from training.search.budget import Budget
from training.search.run import PLAN, Search, search
from training.search.trial import Place
from training.space import Dimension, Space, Value
from training.train import Machine


def space_of(system: SystemPlan) -> Space:
    """Return the space that the trials of a system span."""
    found: dict[str, list[Value]] = {}
    for trial in system.trials:
        for section, values in trial.items():
            for key, value in values.items():
                found.setdefault(f"{section}.{key}", []).append(value)
    return {key: _dimension(key, list(dict.fromkeys(values))) for key, values in found.items()}


def _dimension(key: str, values: list[Value]) -> Dimension:
    if key == "training.learning_rate" and len(values) > 1:
        rates = [float(value) for value in values]
        return Dimension(low=min(rates), high=max(rates), log=True)
    return Dimension(choices=tuple(values))


def search_all(plan: Plan, budget: Budget, data: Path, runs: Path, console: Console, only: frozenset[str]) -> None:
    """Search around every system with the same budget, by the protocol that compares trials; goes on after a stop."""
    for system in plan.systems:
        if len(system.trials) > 1 and (not only or system.name in only):
            folder = runs / "searches" / slug(system.name)
            if (folder / PLAN).exists():
                begun = Search.read(folder, budget)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                recipe = job_of(plan, system, 0, plan.tune, plan.seeds[0]).recipe
                begun = Search(folder, recipe, space_of(system), budget).kept()
            found = search(begun, Place(folder, data, Machine("cpu", 1), list), console)
            spent = f"{found.spent.trials:g} trials, {found.spent.cpu_seconds:,.0f} CPU s"
            console.print(
                f"{system.name}: {found.metric} {found.value:.4f} on validation after {spent}", soft_wrap=True
            )
