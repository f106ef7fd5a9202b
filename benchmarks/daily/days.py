"""KuaiRand-Pure day by day: each day's prepared data continue the indices of the day before."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from training.data.datasets import kuairand
from training.data.datasets.interactions import Interactions
from training.data.datasets.locate import locate
from training.data.known import NOTHING_KNOWN, read_known
from training.data.prepare import prepare
from training.data.times import DAY_MS

NAME: Final = kuairand.NAME
FIRST: Final = 6
"""The last day of the base; days are counted from 1, the first whole day of the log."""
LAST: Final = 13
"""The last day that is only judged, never learnt: the log ends with day 14, which is judged too."""

_BEGIN_MS: Final = 1_650_816_000_000  # 2022-04-25T00:00 in China, 24 April 16:00 UTC


def day_start_ms(day: int) -> int:
    """Return the first millisecond of a day."""
    return _BEGIN_MS + (day - 1) * DAY_MS


def prepared_day(day: int, work: Path) -> Path:
    """Return the folder of prepared data sets with the log up to the end of a day; made if it is not there."""
    folder = work / f"data-{day:02d}"
    if not (folder / NAME / "provenance.json").exists():
        known = NOTHING_KNOWN if day == FIRST else read_known(prepared_day(day - 1, work) / NAME)
        prepare(_until(_log(), day_start_ms(day + 1)), folder / NAME, core=1, known=known)
    return folder


@cache
def _log() -> Interactions:
    return kuairand.load(locate(NAME, kuairand.FILES, None, Path("data/downloads")))


def _until(raw: Interactions, end_ms: int) -> Interactions:
    """Return the interactions before a time, without impressions: the replay learns clicks."""
    kept = np.flatnonzero(raw.times_ms < end_ms)
    users, items = ([ids[place] for place in kept.tolist()] for ids in (raw.users, raw.items))
    assert raw.context is not None
    return replace(
        raw,
        digest=f"{raw.digest}-{end_ms}",
        users=users,
        items=items,
        times_ms=raw.times_ms[kept],
        actions=raw.actions[kept],
        values=raw.values[kept],
        plays_ms=raw.plays_ms[kept],
        context=raw.context[kept],
        impressions=None,
    )
