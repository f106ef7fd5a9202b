"""Simulated users of the proof: events of a week before and a week after, through the report's own tables."""

from __future__ import annotations

import tempfile
from pathlib import Path

from analysis.proof.population import Population, from_table
from analysis.rules import Study
from analysis.statistics.winsorise import winsorise
from analysis.synthetic.files import write_synthetic
from analysis.synthetic.population import Effect
from analysis.synthetic.population import Population as Habits
from analysis.units.table import compute

_DAYS = 7


def synthetic(users: int, seed: int) -> Population:
    """Return users whose arms do nothing.

    Args:
        users: how many.
        seed: of all that they do.
    """
    alike = {"control": Effect(), "treatment": Effect()}
    habits = Habits(users, seed, before_days=_DAYS, after_days=_DAYS, effects=alike)
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(habits, Path(folder))
        table = compute(Path(folder), Study(habits.experiment, _DAYS)).units
    complete = table.filter(table["complete"])
    return from_table(f"{complete.num_rows:,} simulated users", winsorise(complete)[0])
