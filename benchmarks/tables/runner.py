"""Trains the missing runs of a table, several at a time, each in a separate process on one thread.

A complete run is never repeated. One that was killed continues where its last epoch ended. Trials of all
systems come first; then the final runs, seed by seed, so that a table that is stopped early has every row.
"""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks.tables.plan import Job, Plan, SystemPlan, final_jobs, trial_jobs
from benchmarks.tables.records import Records
from contract.progress import duration
from training.runs import RunDirectory
from training.train import JUDGED, Machine, evaluate_run, train


class Folders(NamedTuple):
    """The folders of the prepared data and of the runs."""

    data: Path
    runs: Path


class Places(NamedTuple):
    """The folders, and the records of the runs."""

    folders: Folders
    records: Records


def chosen_trial(plan: Plan, system: SystemPlan, records: Records) -> int | None:
    """Return the trial that was best on validation (the first of equals), or None while one is missing."""
    jobs = trial_jobs(plan, system)
    if not system.trials or not all(records.has(job) for job in jobs):
        return None
    scores = [records.read(job).selected() for job in jobs]
    return max(range(len(scores)), key=scores.__getitem__) if scores else 0


def pending(plan: Plan, records: Records, only: frozenset[str] = frozenset()) -> list[Job]:
    """Return the missing runs that can be trained now, in order."""
    systems = [system for system in plan.systems if not only or system.name in only]
    trials = [trial_jobs(plan, system) for system in systems]
    first = [job for jobs in trials for job in jobs if not records.has(job)]
    final: list[tuple[int, Job]] = []
    for system in systems:
        trial = chosen_trial(plan, system, records)
        jobs = [] if trial is None else list(final_jobs(plan, system, trial))
        final += [(place, job) for place, job in enumerate(jobs) if not records.judged(job)]
    return first + [replace(job, parts=JUDGED) for _, job in sorted(final, key=lambda one: one[0])]


def missing(plan: Plan, records: Records, only: frozenset[str] = frozenset()) -> int:
    """Return the number of missing runs, with those whose trial is not chosen yet."""
    count = 0
    for system in plan.systems:
        if not only or system.name in only:
            trial = chosen_trial(plan, system, records)
            jobs = list(final_jobs(plan, system, trial or 0)) if system.trials else []  # a failed search has no runs
            count += sum(not records.has(job) for job in trial_jobs(plan, system))
            count += sum(trial is None or not records.judged(job) for job in jobs)
    return count


def run(plan: Plan, places: Places, console: Console, workers: int, only: frozenset[str]) -> list[str]:
    """Train all missing runs; returns the failures, in words."""
    failed: dict[str, str] = {}
    started, first = time.monotonic(), missing(plan, places.records, only)
    running: dict[Future[RunDirectory], Job] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        while True:
            busy = {job.name for job in running.values()} | set(failed)
            jobs = [job for job in pending(plan, places.records, only) if job.name not in busy]
            for job in jobs[: workers - len(running)]:
                running[pool.submit(_trained, job, places.folders)] = job
            if not running:
                return [f"{name}: {error}" for name, error in failed.items()]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    value = _kept(job, future.result(), places.records)
                except Exception as error:  # a failed run is reported and must not stop the table
                    failed[job.name] = f"{type(error).__name__}: {error}"
                    console.print(f"failed {job.name}: {failed[job.name]}")
                    continue
                left = missing(plan, places.records, only)
                rate = (time.monotonic() - started) / max(first - left, 1)
                where = f"{job.system}  {job.protocol}  trial {job.trial}  seed {job.recipe.seed}"
                console.print(f"{where}  valid {value:.4f}  ({left} left, about {duration(rate * left)})")


def make(job: Job, places: Places) -> float:
    """Train and evaluate one run and keep its record; returns the validation metric that selected its epoch."""
    return _kept(job, _trained(job, places.folders), places.records)


def _trained(job: Job, folders: Folders) -> RunDirectory:
    """Return a run, trained and evaluated; a selected trial with existing weights is only evaluated."""
    run = RunDirectory(folders.runs / job.name)
    run.path.mkdir(parents=True, exist_ok=True)
    (run.path / "recipe.json").write_text(job.recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")
    machine = Machine("cpu", 1)
    if (run.path / "run.json").exists():
        evaluate_run(run, folders.data, machine)
    else:
        with (run.path / "output.txt").open("a", encoding="utf-8") as output:
            console = Console(file=output, highlight=False)
            train(run, job.recipe, folders.data, machine, console, parts=job.parts)
    return run


def _kept(job: Job, run: RunDirectory, records: Records) -> float:
    records.write(job, run)
    return records.read(job).selected()
