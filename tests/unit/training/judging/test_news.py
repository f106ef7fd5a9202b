"""A split by time on the generated news log: its articles live about a day and a half."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contract.bundle.tensors import SequenceSpec
from tests.support.news_days import write_days
from tests.support.news_log import SMALL, news_log
from training.data.cut import prepared_until
from training.data.prepare import Prepared, load_prepared, prepare
from training.data.sources import read_source
from training.data.times import HOUR_MS
from training.judging.candidates import Lifetimes
from training.judging.evaluate import Judge
from training.recipe import SplitRecipe
from training.rows.split import instances, split

SPEC = SequenceSpec(length=3, columns=("items",))


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("news")
    source = read_source(str(write_days(news_log(**SMALL), folder / "news.csv", 5)), None, folder)
    prepare(source.interactions, folder / "news", core=1)
    return load_prepared(folder / "news")


def test_a_query_is_ranked_among_the_articles_of_its_day(news: Prepared) -> None:
    rows = instances(news)
    alive = Lifetimes(news, 24 * HOUR_MS).alive(rows)[:, 1:].sum(axis=1)
    assert alive.mean() < 0.7 * len(news.items)
    assert Lifetimes(news, HOUR_MS).alive(rows)[:, 1:].sum() < alive.sum()


def test_likes_and_shares_of_a_clicked_article_are_not_repeats(news: Prepared) -> None:
    assert news.repeat_share < 0.01


def test_the_share_of_repeats_is_the_one_that_prepare_wrote(news: Prepared) -> None:
    older = replace(news, provenance={name: news.provenance[name] for name in ("digest", "counts")})
    assert news.provenance["repeat_share"] == pytest.approx(older.repeat_share, abs=1e-6)
    assert replace(news, provenance=news.provenance | {"repeat_share": 0.5}).repeat_share == 0.5


def test_data_up_to_a_time_have_the_repeats_until_then(news: Prepared) -> None:
    returning = replace(news, provenance=news.provenance | {"repeat_share": 0.5})
    middle = int(np.median(news.columns["times_ms"]))
    assert prepared_until(returning, middle).repeat_share < 0.01


def test_most_targets_are_born_after_training_and_only_recent_clicks_rank_them(news: Prepared) -> None:
    recipe = SplitRecipe(protocol="time")
    counts = np.bincount(split(news, "time").train.items, minlength=len(news.items) + 1).astype(np.float32)
    judge = Judge(news, SPEC, recipe, "test", counts)
    found = judge.baselines()
    assert judge.first == "unseen"
    views = found["chance"]
    assert len(views["cold"].users) > len(views["warm"].users)
    assert len(views["cold"].users) + len(views["warm"].users) == len(views["unseen"].users)
    means = {name: views["unseen"].means()["ndcg@10"] for name, views in found.items()}
    assert means["popularity_of_day"] > 1.5 * means["chance"] > 0
    assert means["popularity"] < means["chance"]
