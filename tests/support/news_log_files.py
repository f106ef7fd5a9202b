"""Writes a generated news log as a news team would have it: a file of events and a file of articles.

| File | Columns |
| --- | --- |
| events | uid, article, event, ts_iso, dwell_s, device |
| articles | article, category, author, published, title, tags, words, reading_s, e0 to e7 |

Parquet and JSON lines have one column `embedding` with lists instead of e0 to e7.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.news_log import DAY_MS, DEVICES, EVENTS, START_MS, NewsLog, news_log
from tests.support.news_world import CATEGORIES, WORDS_PER_CATEGORY

ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_SYLLABLES: Final = ("ba", "ro", "li", "ten", "mo", "sar", "ku", "vel", "da", "nim")


def event_columns(log: NewsLog) -> dict[str, list[Any]]:
    """Return the rows of the log as public values, column by column."""
    return {
        "uid": [f"u{user}" for user in log.users.tolist()],
        "article": article_ids(log.articles),
        "event": [EVENTS[event] for event in log.events.tolist()],
        "ts_iso": _iso(log.times_ms),
        "dwell_s": [dwell or None for dwell in log.dwell_s.tolist()],
        "device": [DEVICES[device] for device in log.devices.tolist()],
    }


def article_columns(log: NewsLog) -> dict[str, list[Any]]:
    """Return what is known about every article, column by column."""
    articles = log.catalogue
    titles = [[_word(word) for word in title] for title in articles.titles.tolist()]
    return {
        "article": article_ids(np.arange(len(articles.categories))),
        "category": [CATEGORIES[category] for category in articles.categories.tolist()],
        "author": [f"author {author}" for author in articles.authors.tolist()],
        "published": _iso(START_MS + (articles.born_days * DAY_MS).astype(np.int64)),
        "title": [" ".join(words).capitalize() for words in titles],
        "tags": ["|".join(sorted(set(words[:2]))) for words in titles],
        "words": articles.words.tolist(),
        "reading_s": articles.reading_s.tolist(),
        "embedding": np.round(articles.embeddings, 4).tolist(),
    }


def article_ids(places: Any) -> list[str]:
    """Return the public ids of articles."""
    return [f"a{place}" for place in np.asarray(places).tolist()]


def write_events(log: NewsLog, path: Path) -> Path:
    """Write the log; the name's ending gives the format: .csv, .tsv, .jsonl, .parquet, also .gz or .zst after it."""
    return write_columns(event_columns(log), path)


def write_articles(log: NewsLog, path: Path) -> Path:
    """Write the articles, as `write_events`."""
    return write_columns(article_columns(log), path)


def write_columns(columns: dict[str, list[Any]], path: Path) -> Path:
    """Write columns in the format of the name's ending; a list becomes columns e0, e1, ... of a CSV or TSV file."""
    ending, packed = _ending(path)
    if ending == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif ending in (".jsonl", ".ndjson"):
        rows = zip(*columns.values(), strict=True)
        _write_text(path, packed, (json.dumps(dict(zip(columns, row, strict=True))) for row in rows))
    else:
        separator = "," if ending == ".csv" else "\t"
        flat = _flat(columns)
        texts = [["" if cell is None else str(cell) for cell in cells] for cells in flat.values()]
        _write_text(path, packed, (separator.join(row) for row in ([*flat], *zip(*texts, strict=True))))
    return path


def _ending(path: Path) -> tuple[str, str]:
    packed = path.suffix if path.suffix in (".gz", ".zst") else ""
    ending = path.with_suffix("").suffix if packed else path.suffix
    if ending not in ENDINGS:
        raise ValueError(f"{path.name}: not one of {', '.join(ENDINGS)}")
    return ending, packed


def _flat(columns: dict[str, list[Any]]) -> dict[str, Sequence[Any]]:
    flat: dict[str, Sequence[Any]] = {}
    for name, cells in columns.items():
        if cells and isinstance(cells[0], list):
            flat |= {f"e{place}": values for place, values in enumerate(zip(*cells, strict=True))}
        else:
            flat[name] = cells
    return flat


def _write_text(path: Path, packed: str, lines: Any) -> None:
    text = ("\n".join(lines) + "\n").encode()
    if packed == ".gz":
        text = gzip.compress(text, compresslevel=1, mtime=0)
    elif packed == ".zst":
        text = _zstd(text)
    path.write_bytes(text)


def _zstd(text: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(text)
    return bytes(sink.getvalue())


def _iso(times_ms: Any) -> list[str]:
    return [f"{text}Z" for text in np.datetime_as_string(np.asarray(times_ms).astype("datetime64[ms]")).tolist()]


def _word(number: int) -> str:
    """Return a made-up word; words of one category begin with the same letters."""
    category, place = divmod(number, WORDS_PER_CATEGORY)
    return CATEGORIES[category][:3] + _SYLLABLES[place % 10] + _SYLLABLES[place // 10]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write `news.csv` and `articles.csv`, or another format, into a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.news_log", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ending", default=".csv", help=f"{', '.join(ENDINGS)}, also with .gz or .zst (default .csv)")
    for name, default in (("events", 200_000), ("users", 4_000), ("articles", 5_000), ("days", 8), ("seed", 7)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    options = vars(parser.parse_args(arguments))
    folder, ending = options.pop("folder"), options.pop("ending")
    folder.mkdir(parents=True, exist_ok=True)
    log = news_log(**options)
    for path in (write_events(log, folder / f"news{ending}"), write_articles(log, folder / f"articles{ending}")):
        print(f"written: {path}")
