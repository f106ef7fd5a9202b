"""A day from its first step to its verdict."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from contract.command_line import CommandError, one_line
from deploy.daily.commands import Commands
from deploy.daily.settings import Call, Settings
from deploy.daily.state import Day, Days
from deploy.daily.steps import STEPS, RefusedError, Work

PROMOTED, FAILED, REFUSED, BUSY = 0, 1, 3, 4
"""Exit statuses."""

_STATUS: Final = {"promoted": PROMOTED, "refused": REFUSED, "failed": FAILED}
Line = dict[str, Any]  # JSON


def run_day(
    settings: Settings, call: Call, days: Days, run: Commands, on_step: Callable[[str], None] = lambda _: None
) -> tuple[Line, int]:
    """Do what is left of a day; returns the line for the log, and the exit status. The caller holds the lock."""
    record = days.read(call.day)
    if record is not None and _is_decided(record, force=call.force):
        return _line(record, {}, repeated=True), _STATUS[record.status]
    later = [day for day in days.known() if day > call.day]
    if later:
        raise CommandError(f"--day {call.day}: {later[-1]} has begun already; days follow one another")
    recipe = sha256(settings.recipe.read_bytes()).hexdigest()
    record = record or Day(day=call.day, recipe=recipe)
    if "train" not in record.steps:  # the day failed before, and the recipe may have been repaired since
        record.recipe = recipe
    record.status = "running"
    work = Work(settings, call, record, days.last_promoted(call.day), run)
    seconds: dict[str, float] = {}
    try:
        _do(work, days, seconds, on_step)
    except RefusedError as error:
        record.status, record.reason = "refused", str(error)
    except (CommandError, OSError) as error:
        return _line(record, seconds, status="failed", reason=one_line(str(error))), FAILED
    else:
        record.status, record.reason = "promoted", record.steps["judge"]["reason"]
    days.write(record)
    _forget(settings, days)
    return _line(record, seconds), _STATUS[record.status]


def _is_decided(record: Day, *, force: bool) -> bool:
    """Return whether a day is over; one that was refused because its log had not come yet is tried again."""
    if record.status == "refused":
        return "prepare" in record.steps and not force
    return record.status == "promoted"


def _do(work: Work, days: Days, seconds: dict[str, float], on_step: Callable[[str], None]) -> None:
    for name, step in STEPS.items():
        if name in work.record.steps:
            continue
        on_step(name)
        began = time.monotonic()
        work.record.steps[name] = step(work)
        days.write(work.record)
        seconds[name] = round(time.monotonic() - began, 1)


def _line(record: Day, seconds: dict[str, float], **changes: object) -> Line:
    """Return what happened, as one JSON object."""
    line: Line = {"day": record.day.isoformat(), "status": record.status, "reason": record.reason}
    line |= {key: record.steps.get("export", {}).get(key) for key in ("model", "version")}
    line |= {"figures": record.figures, "seconds": seconds}
    return {**line, "repeated": False, **changes}


def _forget(settings: Settings, days: Days) -> None:
    """Remove the runs of old days; the newest promoted one is needed tomorrow."""
    promoted = [day for day in days.known() if (found := days.read(day)) and found.status == "promoted"]
    needed = {*days.known()[-settings.keep :], *promoted[-1:]}
    for day in set(days.known()) - needed:
        shutil.rmtree(settings.runs / settings.track / day.isoformat(), ignore_errors=True)
