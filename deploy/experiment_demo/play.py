"""The demo from beginning to end."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.console import Console

from deploy.experiment_demo import interleaving as needs
from deploy.experiment_demo.definition import AA, AB, CONTROL, INTERLEAVED, TREATMENT, planned, write_experiments
from deploy.experiment_demo.live import Lived, live
from deploy.experiment_demo.options import Plan
from deploy.experiment_demo.outcome import Outcome, judge, show
from deploy.experiment_demo.people import draw_users, read_people, user_id
from deploy.processes import child, run_step
from deploy.releases import Places, prepare, recipe_of, release
from deploy.stack import Stack, local_stack

_SETTINGS: Final = {
    "RANKER_STREAMS__MAX_LENGTH": "4000000",  # a slow sink loses nothing
    "RANKER_STREAMS__INTERVAL_MS": "50",
    "RANKER_LIMITS__MAX_WRITES": "64",
    "RANKER_RANKING_LOG__SHARE": "1.0",
    "RANKER_RANKING_LOG__ATTRIBUTES": '["platform"]',
    "RANKER_LOGGING__ACCESS": "false",
}
FOLDER: Final = "experiment"
console = Console(highlight=False)


def play(plan: Plan) -> int:
    """Run the demo; returns the exit status."""
    started = time.monotonic()
    _step("Models")
    places = prepare(Places())
    releases = release(places, {model: recipe_of(model, short=True) for model in (CONTROL, TREATMENT)}, console)
    versions = {one.model: one.version for one in releases}
    with experiment(plan, places, versions) as (stack, lived, outcomes):
        show(console, outcomes, lived, plan.day_seconds)
        if plan.interleaves:
            needs.show(console, *interleaving(plan, places))
        console.print(f"[dim]From the command to here: {time.monotonic() - started:.0f} s.[/dim]")
        if not plan.is_oneshot:
            _open(report_of(places, AB))
            console.print(f"\nThe service is up, and its page links to the report: [bold]{stack.url}[/bold]")
            console.print("Ctrl-C stops it.")
            threading.Event().wait()
    return 0 if all(outcome.is_right for outcome in outcomes) else 1


@contextmanager
def experiment(
    plan: Plan, places: Places, versions: Mapping[str, str]
) -> Iterator[tuple[Stack, Lived, Sequence[Outcome]]]:
    """Run both experiments to their reports; the service runs until the block ends.

    Args:
        plan: what to simulate.
        places: prepared data and bundles; the products are in `records`, in the folder `experiment`.
        versions: of the two bundles, by model.
    """
    folder = _empty(places.records / FOLDER)
    file, now = folder / "experiments.yaml", datetime.now(UTC)
    write_experiments(file, versions, now, now + timedelta(days=7), interleaves=plan.interleaves)
    settings = {**_SETTINGS, "RANKER_PAGE__REPORT": str(report_of(places, AB))}
    with local_stack(places, file, plan.port, settings) as stack:
        lived = _simulate(plan, places, stack, folder)
        _step("Reports")
        yield stack, lived, [_report(plan, places, file, lived, one) for one in (AB, AA)]


def report_of(places: Places, key: str) -> Path:
    """Return the page of an experiment's report."""
    return places.records / FOLDER / key / "report.html"


def _simulate(plan: Plan, places: Places, stack: Stack, folder: Path) -> Lived:
    """Live through the days while the sink writes; returns when all events are in Parquet."""
    people = read_people(places.prepared, plan.lived, plan.seed)
    users = list(draw_users(plan.users, len(people.histories), plan.seed))
    _step("Simulated users")
    sink = ("analysis", "sink", "--out", str(folder / "data"), "--url", stack.redis, "--metrics-port", "0")
    _mark_simulated(folder / "data")
    with child("sink", sink, folder / "sink.log"):
        lived = asyncio.run(live(plan, stack, people, users, console))
    run_step((*sink, "--once"))  # what the sink had not read yet when it was stopped
    return lived


def _report(plan: Plan, places: Places, file: Path, lived: Lived, key: str) -> Outcome:
    page = report_of(places, key)
    where = ("--data", str(file.parent / "data"), "--out", str(page.parent), "--experiments", str(file))
    size = planned(key, (user_id(number) for number in range(plan.users)), interleaves=plan.interleaves)
    how = ("--window", str(plan.days), "--day", f"{plan.day_seconds:.0f}s", "--planned", str(size))
    run_step(("analysis", "report", key, *where, *how))
    return judge(key, page.with_suffix(".json"), lived.planted if key == AB else None)


def interleaving(plan: Plan, places: Places) -> tuple[Path, Path]:
    """Analyse the users whose lists were interleaved; returns that finding and the A/B report, both as JSON."""
    found = report_of(places, INTERLEAVED).parent
    data = str(places.records / FOLDER / "data")
    how = ("--credit", needs.CREDIT, "--day", f"{plan.day_seconds:.0f}s")
    run_step(("analysis", "interleave", INTERLEAVED, "--data", data, "--out", str(found), *how))
    return found / "interleaving.json", report_of(places, AB).with_suffix(".json")


def _mark_simulated(data: Path) -> None:
    """Mark the tables, so that every report of them contains the word."""
    data.mkdir()
    (data / "SIMULATED").write_text("users of deploy/experiment_demo\n")


def _open(page: Path) -> None:
    """Open a page in the user's browser, if there is a display."""
    is_shown = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))  # noqa: TID251 (not a setting)
    if is_shown and (opener := shutil.which("xdg-open")):
        subprocess.Popen([opener, str(page)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _empty(folder: Path) -> Path:
    """Return an empty folder in the place of the last run's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _step(title: str) -> None:
    console.rule(f"[bold]{title}", align="left")
