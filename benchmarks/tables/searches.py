"""The same search budget for every system of a plan: Optuna instead of the plan's list of trials.

The space of a system has the values of its trials: a range from the smallest to the largest learning rate, and the
choices of every other key. A search goes on after a stop; the best recipe is in `<runs>/searches/<name>/best.toml`.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.tables.plan import Plan, PlanError, Section
from benchmarks.tables.runner import Places
from benchmarks.tables.searched import Searched, SearchJob, search_jobs
from training.runs import environment, git_revision
from training.search.budget import Budget
from training.search.run import PLAN, Found, Search, draw_trials, search, trials_of
from training.search.trial import Place
from training.search.values import value_of
from training.train import Machine


@dataclass(frozen=True)
class _Task:
    """A search for another process.

    Attributes:
        folder: of the search.
        data: folder of the prepared data sets.
    """

    job: SearchJob
    seconds: float
    folder: Path
    data: Path


def search_all(
    plan: Plan, places: Places, searched: Searched, console: Console, workers: int, only: frozenset[str]
) -> list[str]:
    """Search around every system with the plan's budget, several at a time; returns the failures, in words.

    A search whose record has this budget is not repeated.

    Raises:
        PlanError: a search has already had a larger budget.
    """
    tasks = [
        _Task(job, plan.search_seconds, places.folders.runs / "searches" / job.name, places.folders.data)
        for job in search_jobs(plan)
        if (not only or job.system in only) and searched.found(job, plan.search_seconds) is None
    ]
    for task in tasks:
        _check(task)
    failed = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = {pool.submit(_searched, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                system = futures[future].job.system
                try:
                    searched.write(future.result())
                except Exception as error:  # a search without a result is reported and must not stop the others
                    failed.append(f"{system}: {type(error).__name__}: {error}")
                    console.print(f"failed search: {failed[-1]}", soft_wrap=True)
                    continue
                console.print(f"searched: {system}: {_told(future.result())}", soft_wrap=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C no other search begins
            raise
    return failed


def _check(task: _Task) -> None:
    if (task.folder / PLAN).exists():
        had = Search.read(task.folder, None).budget.cpu_seconds
        if had > task.seconds:
            raise PlanError(
                f"{task.job.system}: its search has had {had:g} CPU seconds; a table needs the same budget for every "
                f"system: give at least {had:g}, or remove {task.folder}"
            )


def _searched(task: _Task) -> Section:
    """Return the record of a search, from its beginning or from where it was stopped."""
    budget = Budget(cpu_seconds=task.seconds)
    task.folder.mkdir(parents=True, exist_ok=True)
    if (task.folder / PLAN).exists():
        begun = Search.read(task.folder, budget)
    else:
        begun = Search(task.folder, task.job.recipe, task.job.space, budget).kept()
    with (task.folder / "output.txt").open("a", encoding="utf-8") as output:
        place = Place(task.folder, task.data, Machine("cpu", 1), list)
        found = search(begun, place, Console(file=output, highlight=False), quiet=True)
    draw_trials(begun)
    return _record(task, begun, found)


def _record(task: _Task, begun: Search, found: Found) -> dict[str, Any]:  # Any: JSON
    return {
        "name": task.job.name,
        "system": task.job.system,
        "cpu_seconds": task.seconds,
        "spent": {"trials": int(found.spent.trials), "rows": found.spent.rows, "cpu_seconds": found.spent.cpu_seconds},
        "metric": found.metric,
        "value": found.value,
        "best": found.number,
        "values": {key: value_of(found.recipe, key) for key in begun.space},
        "trials": trials_of(begun),
        "recipe": begun.recipe.model_dump(mode="json"),
        "space": {key: one.model_dump(exclude_defaults=True) for key, one in begun.space.items()},
        "environment": environment(),
        "git_revision": git_revision(),
    }


def _told(record: Section) -> str:
    spent = record["spent"]
    return (
        f"{record['metric'].upper()} {record['value']:.4f} on validation, the best of {spent['trials']} trials "
        f"in {spent['cpu_seconds']:,.0f} CPU s"
    )
