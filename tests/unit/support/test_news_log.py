"""The generated news log has what training for a feed must learn, and its files are what a team would have."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tests.support.news_log import DAY_MS, EVENTS, SMALL, START_MS, NewsLog, news_log
from tests.support.news_log_files import article_ids, main, write_articles, write_events

CLICK = EVENTS.index("click")


@pytest.fixture(scope="module")
def log() -> NewsLog:
    return news_log(events=60_000, users=1_200, articles=2_000, days=6)


def test_the_same_arguments_give_the_same_log_and_another_seed_another() -> None:
    one, same, other = news_log(**SMALL), news_log(**SMALL), news_log(**SMALL, seed=8)
    assert len(one) == SMALL["events"]
    assert (one.times_ms == same.times_ms).all()
    assert (one.articles == same.articles).all()
    assert (one.articles != other.articles).any()


def test_articles_live_about_a_day_and_a_half_and_half_of_the_last_day_is_new(log: NewsLog) -> None:
    days = (log.times_ms - START_MS) / DAY_MS
    assert (days - log.catalogue.born_days[log.articles]).max() < 5
    last = days >= 5
    new = ~np.isin(np.unique(log.articles[last]), np.unique(log.articles[~last]))
    assert 0.4 < new.mean() < 0.6


def test_a_personal_rule_beats_popularity_of_the_day_and_features_rank_fresh_articles(log: NewsLog) -> None:
    """The rule: how near an article is to the mean of what the user clicked before the last day."""
    past, last = log.between(0, 5), log.between(5, 6)
    shown, clicked = last.events == EVENTS.index("view"), last.events == CLICK
    pairs = np.stack((last.users, last.articles))
    labels = np.isin(_keys(pairs[:, shown]), _keys(pairs[:, clicked]))
    users, articles = pairs[:, shown]
    own = np.zeros((len(log.readers.taste), log.catalogue.embeddings.shape[1]))
    clicks = past.events == CLICK
    np.add.at(own, past.users[clicks], log.catalogue.embeddings[past.articles[clicks]])
    personal = (own[users] * log.catalogue.embeddings[articles]).sum(1)
    today = log.between(4, 5)
    popular = np.bincount(today.articles[today.events == CLICK], minlength=len(log.catalogue.born_days))[articles]
    assert _auc(personal, labels) > _auc(popular, labels) + 0.05
    fresh = log.catalogue.born_days[articles] >= 5
    assert fresh.sum() > 500
    assert _auc(personal[fresh], labels[fresh]) > 0.6


@pytest.mark.parametrize("ending", [".csv", ".tsv.gz", ".jsonl.zst", ".parquet"])
def test_every_format_has_the_same_rows(log: NewsLog, tmp_path: Path, ending: str) -> None:
    some = log.between(0, 1)
    events = _read(write_events(some, tmp_path / f"news{ending}"))
    assert [row["article"] for row in events] == article_ids(some.articles)
    assert events[0]["ts_iso"].endswith("Z")
    articles = _read(write_articles(some, tmp_path / f"articles{ending}"))
    assert len(articles) == 2_000
    first = articles[0].get("embedding") or [float(articles[0][f"e{place}"]) for place in range(8)]
    assert np.allclose(first, log.catalogue.embeddings[0], atol=1e-4)


def test_the_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path / "out"), "--events", "500", "--users", "60", "--articles", "200", "--days", "2"])
    assert len((tmp_path / "out" / "news.csv").read_text().splitlines()) == 501
    assert capsys.readouterr().out.count("written: ") == 2


def _keys(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    return pairs[0] * 1_000_000 + pairs[1]


def _auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Return the share of (clicked, not clicked) pairs in the right order; ties count half."""
    _, ranks, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - (sizes - 1) / 2
    ups, downs = labels.sum(), (~labels).sum()
    return float((middle[ranks][labels].sum() - ups * (ups + 1) / 2) / (ups * downs))


def _read(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        return [dict(row) for row in pq.read_table(path).to_pylist()]
    with pa.input_stream(path, compression="detect") as file:
        text = file.read().decode()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(text.splitlines(), delimiter="\t" if ".tsv" in path.name else ","))
