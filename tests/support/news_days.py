"""The generated news log as the CSV file that `training prepare` reads without a mapping."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from tests.support.news_log import DAY_MS, START_MS, NewsLog
from tests.support.news_log_files import article_columns, event_columns

_ACTIONS: Final = {"view": "impression", "click": "click"}  # a like or a share would make its click a repeat


def write_days(log: NewsLog, path: Path, days: float) -> Path:
    """Write the first days of a log."""
    first = log.between(0, days)
    events, categories = event_columns(first), article_columns(log)["category"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "item_id", "ts", "action", "play_ms", "genres"))
        for row, event in enumerate(events["event"]):
            if event not in _ACTIONS:
                continue
            dwell_ms, article = int(first.dwell_s[row]) * 1000, int(first.articles[row])
            action, time_ms = _ACTIONS[event], int(first.times_ms[row])
            writer.writerow(
                (events["uid"][row], events["article"][row], time_ms, action, dwell_ms or "", categories[article])
            )
    return path


def day_ms(days: float) -> int:
    """Return the time of a day of the log, counted from 0."""
    return START_MS + round(days * DAY_MS)
