"""If no scores are equal, our metrics are RecBole's; under ties RecBole's are undefined and ours expected values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.judging.metrics import auc, auc_by_user, better_and_equal, hit_rate, mrr, ndcg
from training.judging.views import View

RECBOLE = json.loads((Path(__file__).parent / "recbole_metrics.json").read_text())
LISTS: dict[str, Any] = RECBOLE["lists"]
LABELLED: dict[str, Any] = RECBOLE["labelled"]
OURS = {"hit": hit_rate, "ndcg": ndcg, "mrr": mrr}


@pytest.mark.parametrize("name", LISTS["recbole"])
def test_ranking_metrics_are_recboles(name: str) -> None:
    metric, k = name.split("@")
    g, e = better_and_equal(np.array(LISTS["scores"]), np.array(LISTS["targets"]))
    assert not e.any()
    assert OURS[metric](g, e, int(k)).mean() == pytest.approx(LISTS["recbole"][name], abs=1e-12)


def test_auc_is_recboles() -> None:
    found = auc(np.array(LABELLED["scores"]), np.array(LABELLED["labels"]) > 0)
    assert found == pytest.approx(LABELLED["recbole"]["auc"], abs=1e-12)


def test_gauc_is_recboles_where_positives_are_a_fixed_share_of_rows() -> None:
    scores, labels = np.array(LABELLED["scores"]), np.array(LABELLED["labels"]) > 0
    rows, areas = auc_by_user(np.array(LABELLED["users"]), scores, labels)
    view = View(np.arange(len(rows)), {"gauc": areas}, {"gauc": rows.astype(np.float64)})
    assert view.means()["gauc"] == pytest.approx(LABELLED["recbole"]["gauc"], abs=1e-6)  # RecBole's ranks are float32
    assert len(set(rows.tolist())) > 1  # or the weights would not matter


def test_the_fixture_can_tell_metrics_apart() -> None:
    values = [*LISTS["recbole"].values(), *LABELLED["recbole"].values()]
    assert 0 < min(values) < max(values) < 1
    assert len(set(values)) == len(values) - 2  # at 1 the three ranking metrics are one
