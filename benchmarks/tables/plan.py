"""The plan of a table: systems, the trials of each, protocols and seeds; and from these the runs it needs.

Every system has the same number of trials. Trials are compared only on validation, by the protocol that the plan names
for it, with the first seed; the best trial is trained by every protocol with every seed. With `search_seconds` a search
of that many CPU seconds for each system takes the place of the listed trials, which then give only its space.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.command_line import CommandError
from training.recipe import Recipe, parse_recipe
from training.rows.split import Part

Section = dict[str, Any]  # a part of a recipe in TOML


class PlanError(CommandError, ValueError):
    """A plan cannot be used; the message names the file and the key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SystemPlan(_Strict):
    """One row of the table.

    Attributes:
        name: as the table shows it.
        model: a name of models.catalog.
        note: facts that a reader needs to interpret the row.
        config: the model's, common to all its trials.
        training: of the recipe, common to all its trials.
        trials: the changes of each trial: {config = {...}, training = {...}}.
        against: the row that it is compared with, if that is not the plan's reference: one of the same budget.
    """

    name: str
    model: str
    note: str = ""
    against: str = ""
    config: Section = {}
    training: Section = {}
    trials: tuple[dict[str, Section], ...] = ({},)


class Plan(_Strict):
    """A table.

    Attributes:
        title: the table's title.
        dataset: folder of the prepared data.
        seeds: of the final runs; the first one is that of the trials.
        tune: the protocol that compares trials.
        reference: the system that all others are compared with, unless a system names another.
        trials: number of trials of each trained system.
        search_seconds: CPU seconds of the search around each system of several trials; 0: the trials are compared.
        ranking: of every recipe's split: whether seen items are candidates in the ranking that selects.
        training: of every recipe, unless a system overrides it.
        protocols: by name, the split of the recipes; the first one is shown first.
        systems: the rows.
    """

    title: str
    dataset: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    tune: str
    reference: str
    trials: Annotated[int, Field(ge=1)]
    search_seconds: Annotated[float, Field(ge=0)] = 0
    ranking: Literal["all", "unseen"] = "all"
    training: Section
    protocols: dict[str, Section]
    systems: tuple[SystemPlan, ...]


@dataclass(frozen=True)
class Job:
    """One run that a table needs.

    Attributes:
        key: digest of its part of the plan, except the seed.
        parts: the parts to evaluate; a trial never uses test.
    """

    system: str
    protocol: str
    trial: int
    recipe: Recipe
    key: str
    parts: tuple[Part, ...] = ("valid",)

    @property
    def name(self) -> str:
        """Its place below the table's runs: a function of the plan, not of the code's defaults."""
        return f"{slug(self.system)}/{self.protocol}-{self.key}-s{self.recipe.seed}"


def load_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        PlanError: it is missing, malformed, a system's trials differ in number, or a recipe is refused.
    """
    try:
        plan = Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        raise PlanError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise PlanError(f"{path}: {error}") from None
    names = [system.name for system in plan.systems]
    held_against = {plan.reference, *(system.against for system in plan.systems if system.against)}
    if len(set(names)) < len(names) or not held_against <= set(names) or plan.tune not in plan.protocols:
        raise PlanError(f"{path}: names of systems must differ, and reference, against and tune be among those given")
    for system in plan.systems:
        if system.model != "popularity" and len(system.trials) != plan.trials:
            raise PlanError(f"{path}: {system.name}: {len(system.trials)} trials, where every system has {plan.trials}")
        for trial in range(len(system.trials)):
            job_of(plan, system, trial, plan.tune, plan.seeds[0])
    return plan


def job_of(plan: Plan, system: SystemPlan, trial: int, protocol: str, seed: int) -> Job:
    """Return one run.

    Raises:
        RecipeError: its recipe is refused.
    """
    changed = system.trials[trial]
    split = plan.protocols[protocol] | ({} if plan.ranking == "all" else {"ranking": plan.ranking})
    document = {
        "dataset": plan.dataset,
        "model": system.model,
        "config": {**system.config, **changed.get("config", {})},
        "training": {**plan.training, **system.training, **changed.get("training", {})},
        "split": split,
    }
    key = sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:8]
    recipe = parse_recipe(
        {**document, "split": {**split, "ranking": plan.ranking}, "seed": seed}, f"{plan.title}: {system.name}"
    )
    return Job(system.name, protocol, trial, recipe, key)


def trial_jobs(plan: Plan, system: SystemPlan) -> list[Job]:
    """Return the trials of a system, in order; a system with one choice has none."""
    if len(system.trials) == 1:
        return []
    return [job_of(plan, system, trial, plan.tune, plan.seeds[0]) for trial in range(len(system.trials))]


def final_jobs(plan: Plan, system: SystemPlan, trial: int) -> Iterator[Job]:
    """Yield the runs of a system by every protocol and seed, with the selected trial."""
    for seed in plan.seeds:
        for protocol in plan.protocols:
            yield job_of(plan, system, trial, protocol, seed)


def slug(name: str) -> str:
    """Return a name as a folder's."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower()).strip("_")
