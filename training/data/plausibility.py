"""A check of data: how many rows were dropped and why, and suspicious counts, with warnings above thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Report = dict[str, int]

DROPPED: Final = {
    "bad_lines": "bad lines",
    "outside_time_range": "outside the time range",
    "repeats": "exact repeats",
    "impressions": "impressions",
    "actions": "by their action",
    "core": "by the core filter",
}
"""Reasons why rows are dropped, in the order of dropping; other rows are `kept`."""

_OUTSIDE: Final = ("before_1971", "future")

# Above this share of its total the line begins with "warning:".
_LOUD: Final = {
    "bad_lines": 0.0,
    "outside_time_range": 0.0,
    "repeats": 0.01,
    "impressions": 1.0,  # they are not lost
    "actions": 0.5,
    "core": 0.5,
    "adjacent_repeats": 0.2,
    "ids_with_outer_blanks": 0.0,
    "times_ahead": 0.0,
    "items_within_a_day": 0.5,
    "last_day_young": 0.5,
    "last_6h_new": 0.5,
}
_HINTS: Final = {
    "bad_lines": "listed above; not in the counts below",
    "outside_time_range": "before 1971 or in the future; is the unit of the times right?",
    "repeats": "the same user, item, time, action, play time and value; is the log written twice?",
    "actions": "dislikes, ignored actions and impressions without a window are not trained on",
    "core": "their users or items have too few interactions; see --core",
    "adjacent_repeats": "a user's next interaction is with the same item; does one action write several rows?",
    "ids_with_outer_blanks": "read without them; the service refuses ids with blanks at either end",
    "times_ahead": "later than this machine's clock; are two clocks or time zones mixed?",
    "last_day_young": "train often, with the features of items; judge with protocol time",
    "last_6h_new": "only features can rank them",
    "items_within_a_day": "a day-old model will know few of the new items",
}


def dropped_rows(read: Mapping[str, int], repeats: int, impressions: int, actions: int, core: int) -> Report:
    """Return how many rows were dropped, by reason.

    Args:
        read: the reader's counts; its `skipped_<kind>` are counts of bad lines by kind of problem.
        repeats: exact repeats of an earlier row.
        impressions: rows that are impressions, not behaviours.
        actions: rows of an action that is not trained on.
        core: rows of users and items with too few interactions.
    """
    skipped = {name.removeprefix("skipped_"): count for name, count in read.items() if name.startswith("skipped_")}
    outside = sum(skipped.pop(kind, 0) for kind in _OUTSIDE)
    bad = sum(skipped.values())
    return {
        "bad_lines": bad, "outside_time_range": outside, "repeats": repeats, "impressions": impressions,
        "actions": actions + read.get("ignored_actions", 0), "core": core,
    }  # fmt: skip


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
    if report.get("last_day"):
        lines += [
            _line("last_day_young", report["last_day_young"], report["last_day"], "of the last day's interactions are "
                  "with items born within a day"),
            _line("last_6h_new", report["last_6h_new"], report["last_6h"], "of the last 6 hours' interactions are with "
                  "items that a model trained before them does not know"),
        ]  # fmt: skip
    if "items_within_a_day" in report:
        lines.append(
            _line("items_within_a_day", report["items_within_a_day"], items, "of the items live less than a day")
        )
    return lines


def _line(name: str, count: int, total: int, words: str) -> str:
    line = f"{count:,} ({count / max(total, 1):.1%}) {words}"
    return f"warning: {line}: {_HINTS[name]}" if count > _LOUD[name] * total else line
