"""The searches of a table, small enough to be committed: `searches.jsonl`, one line per search, sorted by name.

| Field | Contents |
| --- | --- |
| name, system | place below the searches of the table's runs; the row |
| cpu_seconds, spent | the budget; trials, training rows and CPU seconds that were spent |
| metric, value, best, values | of the best trial: its validation, its number, and its values by key |
| trials | number, state (`complete`, `pruned`, `fail`), validation, epochs and values of every trial |
| recipe, space | what was searched |
| environment, git_revision | where |

Reading them needs no Optuna.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from benchmarks.tables.plan import Plan, PlanError, Section, SystemPlan, job_of, slug
from benchmarks.tables.records import read_lines, write_lines
from training.recipe import Recipe
from training.search.values import value_of
from training.space import Dimension, Space

LINES: Final = "searches.jsonl"


@dataclass(frozen=True)
class SearchJob:
    """One search that a table needs.

    Attributes:
        name: its place; a function of what it searches, so another plan has another search.
        recipe: the first trial of the plan, by the protocol that compares trials, with the first seed.
    """

    system: str
    name: str
    recipe: Recipe
    space: Space


class Searched:
    """The records of one table's searches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def found(self, job: SearchJob, seconds: float) -> Section | None:
        """Return the record of a search that has had exactly this budget, or None."""
        record = self._records.get(job.name)
        return record if record is not None and record["cpu_seconds"] == seconds else None

    def write(self, record: Section) -> None:
        """Add a record, or replace the one of the same name."""
        self._records[record["name"]] = record
        self.folder.mkdir(parents=True, exist_ok=True)
        write_lines(self.folder / LINES, [self._records[name] for name in sorted(self._records)])

    def by_system(self, plan: Plan) -> dict[str, Section | None]:
        """Return the record of each searched system; None while it is missing."""
        return {job.system: self.found(job, plan.search_seconds) for job in search_jobs(plan)}

    def applied(self, plan: Plan) -> Plan:
        """Return the plan with the best recipe of each search as the system's only trial; none while it is missing."""
        records = self.by_system(plan)
        systems = tuple(
            system.model_copy(update={"trials": _winner(records[system.name])}) if system.name in records else system
            for system in plan.systems
        )
        return plan.model_copy(update={"systems": systems})

    @cached_property
    def _records(self) -> dict[str, Section]:
        path = self.folder / LINES
        return {record["name"]: record for record in read_lines(path)} if path.exists() else {}


def _winner(record: Section | None) -> tuple[dict[str, Section], ...]:
    if record is None:
        return ()
    sections: dict[str, Section] = {}
    for key, value in record["values"].items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    return (sections,)


def search_jobs(plan: Plan) -> Iterator[SearchJob]:
    """Yield the searches of a plan: one for each system of several trials; none if the plan compares its trials."""
    for system in plan.systems if plan.search_seconds else ():
        if len(system.trials) > 1:
            job, space = job_of(plan, system, 0, plan.tune, plan.seeds[0]), space_of(plan, system)
            ranges = {key: one.model_dump(exclude_defaults=True) for key, one in space.items()}
            key = sha256(json.dumps([job.key, ranges], sort_keys=True).encode()).hexdigest()[:8]
            name = f"{slug(system.name)}/{plan.tune}-{key}-s{job.recipe.seed}"
            yield SearchJob(system.name, name, job.recipe, space)


def space_of(plan: Plan, system: SystemPlan) -> Space:
    """Return the space that the trials of a system span.

    A trial that does not set a key has the value of the system's recipe.

    Raises:
        PlanError: a key has a value that cannot be searched.
    """
    keys = dict.fromkeys(
        f"{section}.{key}" for trial in system.trials for section, values in trial.items() for key in values
    )
    recipes = [job_of(plan, system, trial, plan.tune, plan.seeds[0]).recipe for trial in range(len(system.trials))]
    return {key: _dimension(system, key, [value_of(recipe, key) for recipe in recipes]) for key in keys}


def _dimension(system: SystemPlan, key: str, values: list[Any]) -> Dimension:  # Any: of any key
    if any(not isinstance(value, bool | int | float | str) for value in values):
        raise PlanError(f"{system.name}: {key}: only texts, numbers and booleans can be searched; every trial sets it")
    if key == "training.learning_rate" and len(set(values)) > 1:
        return Dimension(low=min(map(float, values)), high=max(map(float, values)), log=True)
    return Dimension(choices=tuple(dict.fromkeys(values)))
