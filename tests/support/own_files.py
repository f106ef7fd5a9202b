"""Small logs in any format, and the news log with its mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.support.news_log import SMALL, NewsLog, news_log
from tests.support.news_log_files import write_articles, write_columns, write_events

FORMATS: Final = (".csv", ".csv.gz", ".tsv", ".tsv.zst", ".jsonl", ".jsonl.gz", ".ndjson.zst", ".parquet")
MAPPING: Final = """\
play_unit = "s"

[columns]
user = "uid"
item = "article"
time = "ts_iso"
action = "event"
play = "dwell_s"

[time]
format = "iso"

[actions]
view = "impression"

[items]
file = "articles{ending}"
title = "title"

[features]
category = {{kind = "category"}}
words = {{kind = "number", buckets = 8}}
tags = {{kind = "list", separator = "|"}}
title = {{kind = "words"}}
{content}
"""


def write_news(folder: Path, ending: str = ".csv", log: NewsLog | None = None) -> Path:
    """Write the small news log, its articles and its mapping; returns the path of the log."""
    folder.mkdir(parents=True, exist_ok=True)
    log = log or news_log(**SMALL)
    write_articles(log, folder / f"articles{ending}")
    flat = ending.startswith((".csv", ".tsv"))
    source = 'prefix = "e"' if flat else 'column = "embedding"'
    content = f'content = {{kind = "embedding", {source}}}'
    (folder / "news.toml").write_text(MAPPING.format(ending=ending, content=content), encoding="utf-8")
    return write_events(log, folder / f"news{ending}")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format of the name's ending; a key that a row lacks is an empty cell."""
    names = dict.fromkeys(name for row in rows for name in row)
    return write_columns({name: [row.get(name) for row in rows] for name in names}, path)
