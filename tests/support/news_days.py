"""The generated news log as one CSV file with the facts about each article, and the mapping that reads it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from tests.support.news_log import DAY_MS, START_MS, NewsLog
from tests.support.news_log_files import article_columns, event_columns

FACTS: Final = ("category", "author", "title", "tags", "words")
"""Item features of the file."""
MAPPING: Final = """[features]
category = {kind = "category"}
author = {kind = "category"}
title = {kind = "words"}
tags = {kind = "list", separator = "|"}
words = {kind = "number", edges = [200, 500, 1000]}
"""

_ACTIONS: Final = {"view": "impression", "click": "click"}  # a like or a share would make its click a repeat


def write_days(log: NewsLog, path: Path, days: float) -> Path:
    """Write the first days of a log, and its mapping beside it."""
    first = log.between(0, days)
    events, articles = event_columns(first), article_columns(log)
    path.with_suffix(".toml").write_text(MAPPING, encoding="utf-8")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "item_id", "ts", "action", "play_ms", *FACTS))
        for row, event in enumerate(events["event"]):
            if event not in _ACTIONS:
                continue
            dwell_ms, article = int(first.dwell_s[row]) * 1000, int(first.articles[row])
            action, time_ms = _ACTIONS[event], int(first.times_ms[row])
            facts = [articles[name][article] for name in FACTS]
            writer.writerow((events["uid"][row], events["article"][row], time_ms, action, dwell_ms or "", *facts))
    return path


def day_ms(days: float) -> int:
    """Return the time of a day of the log, counted from 0."""
    return START_MS + round(days * DAY_MS)
