"""The rows of a table, read from the records of its runs: means, intervals, trials, learning curves and costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.tables.plan import Plan, SystemPlan, final_jobs, trial_jobs
from benchmarks.tables.records import Record, Records
from benchmarks.tables.runner import chosen_trial
from training.judging.intervals import Interval, interval, interval_with_seeds


@dataclass(frozen=True)
class Cell:
    """One metric of one system by one protocol.

    Attributes:
        by_seed: mean over queries, one per finished seed.
        difference: to the row it is compared with, with its interval over users: mean, low, high; None if it cannot be
            paired.
        with_seeds: the same with its interval over seeds and users.
    """

    by_seed: tuple[float, ...]
    difference: Interval | None = None
    with_seeds: Interval | None = None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.by_seed))

    def shown(self, asked: int) -> str:
        """Return mean and spread, and the number of seeds if there are fewer than `asked`."""
        spread = f" ± {np.std(self.by_seed, ddof=1):.4f}" if len(self.by_seed) > 1 else ""
        return f"{self.mean:.4f}{spread}" + (f" (n={len(self.by_seed)})" if len(self.by_seed) < asked else "")


Cells = dict[str, Cell]
"""By metric."""


@dataclass(frozen=True)
class Row:
    """One system.

    Attributes:
        against: the row that it is compared with; itself for the reference.
        trials: the metric of each on validation, in the order of the plan; empty while one is missing.
        chosen: the selected trial, which is trained by every protocol.
        learning: one tuple per seed, validation by epoch, by the protocol that compared the trials.
        seconds: by protocol, processor time of one run, a mean over seeds; only protocols with a run.
        cells: by protocol, then metric; a protocol without runs has none.
    """

    name: str
    model: str
    note: str
    against: str
    trials: tuple[float, ...]
    chosen: int | None
    learning: tuple[tuple[float, ...], ...]
    seconds: dict[str, float]
    cells: dict[str, Cells]


def read_rows(plan: Plan, records: Records) -> list[Row]:
    """Return every system's row from the existing runs."""
    found = {system.name: _found(plan, system, records) for system in plan.systems}
    return [
        _row(plan, system, records, found[system.name], found[system.against or plan.reference])
        for system in plan.systems
    ]


Found = dict[str, list[Record]]  # by protocol


def _found(plan: Plan, system: SystemPlan, records: Records) -> Found:
    trial = chosen_trial(plan, system, records)
    found: Found = {protocol: [] for protocol in plan.protocols}
    for job in [] if trial is None else final_jobs(plan, system, trial):
        if records.judged(job):
            found[job.protocol].append(records.read(job))
    return found


def _row(plan: Plan, system: SystemPlan, records: Records, found: Found, reference: Found) -> Row:
    seconds = {
        protocol: float(np.mean([record.document["run"]["cpu_seconds"] for record in members]))
        for protocol, members in found.items()
        if members
    }
    return Row(
        system.name,
        system.model,
        system.note,
        system.against or plan.reference,
        _judged(plan, system, records),
        chosen_trial(plan, system, records),
        tuple(_learnt(record) for record in found[plan.tune]),
        seconds,
        {
            protocol: _cells(members, [] if system.name == plan.reference else reference[protocol])
            for protocol, members in found.items()
        },
    )


def _learnt(record: Record) -> tuple[float, ...]:
    return tuple(epoch["valid_score"] for epoch in record.document["epochs"])


def _judged(plan: Plan, system: SystemPlan, records: Records) -> tuple[float, ...]:
    jobs = trial_jobs(plan, system)
    if not all(records.has(job) for job in jobs):
        return ()
    return tuple(records.read(job).selected() for job in jobs)


def _cells(members: list[Record], reference: list[Record]) -> Cells:
    if not members:
        return {}
    paired = set(members[0].by_user) & set(reference[0].by_user) if reference else set()
    return {
        metric: _cell(members, reference if metric in paired else [], metric) for metric in members[0].means("test")
    }


def _cell(members: list[Record], reference: list[Record], metric: str) -> Cell:
    by_seed = tuple(record.means("test")[metric] for record in members)
    if not reference:
        return Cell(by_seed)
    ours, theirs = (np.array([record.by_user[metric] for record in some]) for some in (members, reference))
    over_users = interval(ours.mean(axis=0), theirs.mean(axis=0))
    return Cell(by_seed, over_users, interval_with_seeds(ours, theirs))
