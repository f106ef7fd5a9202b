"""A check of data: how many rows were dropped and why, and suspicious counts, with warnings above thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.int64]
Report = dict[str, int]

DROPPED: Final = {
    "bad_lines": "bad lines",
    "outside_time_range": "outside the time range",
    "repeats": "exact repeats",
    "actions": "by their action",
    "core": "by the core filter",
}
"""Reasons why rows are dropped, in the order of dropping; other rows are `kept`."""

_DAY_MS: Final = 86_400_000
_OUTSIDE: Final = ("before_1971", "future")

# Above this share of its total the line begins with "warning:".
_LOUD: Final = {
    "bad_lines": 0.0,
    "outside_time_range": 0.0,
    "repeats": 0.01,
    "actions": 0.5,
    "core": 0.5,
    "adjacent_repeats": 0.2,
    "ids_with_outer_blanks": 0.0,
    "times_ahead": 0.0,
    "items_within_a_day": 0.5,
}
_SHORT_LIVED: Final = "of the items have less than a day between their first and last interaction"
_HINTS: Final = {
    "bad_lines": "listed above; not in the counts below",
    "outside_time_range": "before 1971 or in the future; is the unit of the times right?",
    "repeats": "the same user, item, time, action, play time and value; is the log written twice?",
    "actions": "impressions and dislikes are not trained on",
    "core": "their users or items have too few interactions; see --core",
    "adjacent_repeats": "a user's next interaction is with the same item; does one action write several rows?",
    "ids_with_outer_blanks": "read without them; the service refuses ids with blanks at either end",
    "times_ahead": "later than this machine's clock; are two clocks or time zones mixed?",
    "items_within_a_day": "a day-old model will know few of the new items",
}


def dropped_rows(read: Mapping[str, int], repeats: int, actions: int, core: int) -> Report:
    """Return how many rows were dropped, by reason.

    Args:
        read: the reader's counts; its `skipped_<kind>` are counts of bad lines by kind of problem.
        repeats: exact repeats of an earlier row.
        actions: rows of an action that is not trained on.
        core: rows of users and items with too few interactions.
    """
    skipped = {name.removeprefix("skipped_"): count for name, count in read.items() if name.startswith("skipped_")}
    outside = sum(skipped.pop(kind, 0) for kind in _OUTSIDE)
    bad = sum(skipped.values())
    return {"bad_lines": bad, "outside_time_range": outside, "repeats": repeats, "actions": actions, "core": core}


def suspects(
    read: Mapping[str, int], users: Column, items: Column, times_ms: Column, *, has_times: bool, now_ms: int
) -> Report:
    """Return the counts of suspicious interactions.

    Args:
        read: the reader's counts.
        users: (R,) codes from 0, in the order of user and time.
        items: (R,) codes from 0.
        times_ms: (R,).
        has_times: whether times are real.
        now_ms: the clock.
    """
    same = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    found = {
        "adjacent_repeats": int(same.sum()),
        "ids_with_outer_blanks": read.get("ids_with_outer_blanks", 0),
        "times_ahead": int((times_ms > now_ms).sum()),
    }
    if has_times:
        count = int(items.max()) + 1
        first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
        np.minimum.at(first, items, times_ms)
        np.maximum.at(last, items, times_ms)
        found["items_within_a_day"] = int(((last >= 0) & (last - first < _DAY_MS)).sum())
    return found


def told(report: Mapping[str, int], counts: Mapping[str, int]) -> list[str]:
    """Return the report for people, one line each: first the dropped rows, then suspicious counts."""
    rows, kept, items = report["rows"], counts["interactions"], counts["items"]
    dropped = ", ".join(f"{report[name]:,} {words}" for name, words in DROPPED.items())
    lines = [f"rows: {rows:,} read; dropped: {dropped}; {kept:,} remain"]
    lines += [
        _line(name, report[name], rows, f"of all rows were dropped {words}")
        for name, words in (DROPPED | {"bad_lines": "as bad lines", "repeats": "as exact repeats"}).items()
        if report[name] > _LOUD[name] * rows
    ]
    lines += [
        _line("ids_with_outer_blanks", report["ids_with_outer_blanks"], rows, "of all rows have blanks around an id"),
        _line("adjacent_repeats", report["adjacent_repeats"], kept, "of the interactions repeat the item before"),
        _line("times_ahead", report["times_ahead"], kept, "of the interactions are ahead of the clock"),
    ]
    if "items_within_a_day" in report:
        lines.append(
            _line("items_within_a_day", report["items_within_a_day"], items, "of the items live less than a day")
        )
    return lines


def _line(name: str, count: int, total: int, words: str) -> str:
    line = f"{count:,} ({count / max(total, 1):.1%}) {words}"
    return f"warning: {line}: {_HINTS[name]}" if count > _LOUD[name] * total else line
