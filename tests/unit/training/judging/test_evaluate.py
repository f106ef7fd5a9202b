"""Every protocol against a slow judge that scores one query at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.bundle.tensors import windows
from models.base import SequentialRecommender
from models.catalog import MODELS
from training.data.prepare import Prepared
from training.judging import evaluate
from training.judging.evaluate import Judge, queries
from training.judging.metrics import MetricsError, auc
from training.judging.views import View, means
from training.recipe import Recipe, parse_recipe
from training.rows.loader import dataset_facts, sequence_spec
from training.rows.negatives import stored_negatives
from training.rows.split import Rows


@pytest.fixture
def mine(prepared: Prepared, tmp_path: Path) -> Prepared:
    """The small data in a folder of its own, every fourth interaction shown with a label too."""
    places = np.arange(0, len(prepared.columns["items"]), 2)
    order = places[np.argsort(prepared.columns["times_ms"][places], kind="stable")]
    users = np.repeat(np.arange(len(prepared.users)), np.diff(prepared.user_starts))
    shown = {
        "users": users[order],
        "items": prepared.columns["items"][order],
        "times_ms": prepared.columns["times_ms"][order],
        "labels": np.random.default_rng(0).integers(0, 2, len(order)),
    }
    shown["labels"][shown["users"] == shown["users"][-1]] = 1  # a user with one label has no AUC
    return replace(prepared, directory=tmp_path, impressions=shown)


def _recipe(**split: object) -> Recipe:
    document = {"dataset": "small", "model": "sasrec", "config": {"length": 7, "width": 8, "heads": 1, "inner": 8}}
    return parse_recipe({**document, "split": split}, "test")


def _model(prepared: Prepared, recipe: Recipe) -> SequentialRecommender:
    torch.manual_seed(0)
    model = MODELS["sasrec"].build(recipe.config, dataset_facts(prepared, recipe)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5 * torch.randn(weight.shape))
    return model


def _scores(model: SequentialRecommender, prepared: Prepared, rows: Rows, place: int) -> np.ndarray:
    """Scores of all items for one query, by item index."""
    history = windows({"items": prepared.columns["items"]}, rows.starts[[place]], rows.stops[[place]], model.length)
    with torch.no_grad():
        state = model.encode({"items": torch.from_numpy(history["items"])}).state
        return np.asarray(model.score_all(state)[0].numpy())


def _ndcg(rank: int, k: int) -> float:
    return float(1 / np.log2(rank + 1)) if rank <= k else 0.0


def test_full_and_sampled_ranking(mine: Prepared) -> None:
    recipe = _recipe(held=1)
    model, facts = _model(mine, recipe), dataset_facts(mine, recipe)
    found = Judge(mine, sequence_spec(model), recipe.split, "test", facts.item_popularity)(model)
    rows = queries(mine, recipe.split, "test")
    for view, kind in (("", None), ("pop100", "pop100"), ("uni100", "uni100")):
        name = "leave_last_out-1-test"
        listed = None if kind is None else stored_negatives(mine, name, kind, rows, facts.item_popularity)  # type: ignore[arg-type]
        for place in range(len(rows.items)):
            scores, target = _scores(model, mine, rows, place), rows.items[place]
            others = np.delete(scores[1:], target - 1) if listed is None else scores[listed[place]]
            rank = 1 + int((others > scores[target]).sum())
            assert found[view].values["ndcg@10"][place] == pytest.approx(_ndcg(rank, 10))
            assert found[view].values["hr@10"][place] == float(rank <= 10)
            assert found[view].values["mrr@20"][place] == pytest.approx(1 / rank if rank <= 20 else 0)


def test_lists_of_instances_and_pools_of_users(mine: Prepared) -> None:
    recipe = _recipe(protocol="time")
    model, facts = _model(mine, recipe), dataset_facts(mine, recipe)
    found = Judge(mine, sequence_spec(model), recipe.split, "test", facts.item_popularity)(model)
    rows = queries(mine, recipe.split, "test")
    negatives = stored_negatives(mine, "time-1-test", "uni1000", rows, facts.item_popularity)
    pools: dict[int, list[tuple[float, np.ndarray]]] = {}
    for place in range(len(rows.items)):
        scores = _scores(model, mine, rows, place)
        target, others = scores[rows.items[place]], scores[negatives[place]]
        pools.setdefault(int(rows.users[place]), []).append((target, others))
        rank = 1 + int((others > target).sum())
        assert found[""].values["ndcg@5"][place] == pytest.approx(_ndcg(rank, 5))
        assert found[""].values["gauc"][place] == pytest.approx((others < target).mean())
    pool = found["pool"]
    assert pool.users.tolist() == sorted(pools)
    for place, user in enumerate(pool.users.tolist()):
        positives = np.array([target for target, _ in pools[user]])
        others = np.concatenate([some for _, some in pools[user]])
        rank = 1 + int((others > positives.max()).sum())
        assert pool.values["ndcg@5"][place] == pytest.approx(_ndcg(rank, 5))
        assert pool.values["hit@5"][place] == float(rank <= 5)
        assert pool.values["mrr@5"][place] == pytest.approx(1 / rank if rank <= 5 else 0)
        assert pool.values["gauc"][place] == pytest.approx(
            np.mean([(positive > others).mean() + (positive == others).mean() / 2 for positive in positives])
        )
        assert pool.weights["gauc"][place] == len(positives) + len(others)


def test_what_was_shown_is_judged_by_its_label(mine: Prepared) -> None:
    recipe = _recipe(protocol="impressions")
    model, facts = _model(mine, recipe), dataset_facts(mine, recipe)
    (view,) = Judge(mine, sequence_spec(model), recipe.split, "test", facts.item_popularity)(model).values()
    rows = queries(mine, recipe.split, "test")
    assert rows.labels is not None
    scores = np.array([_scores(model, mine, rows, place)[item] for place, item in enumerate(rows.items)])
    labels = rows.labels > 0
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels] for n in scores[~labels]]
    assert view.totals["auc"] == pytest.approx(np.mean(pairs))
    by_user = {user: auc(scores[rows.users == user], labels[rows.users == user]) for user in np.unique(rows.users)}
    defined = [value for value in by_user.values() if not np.isnan(value)]
    assert 0 < len(defined) < len(by_user)
    assert view.means()["uauc"] == pytest.approx(np.mean(defined))


def test_scores_are_judged_by_each_outcome_that_is_an_action(mine: Prepared) -> None:
    assert mine.impressions is not None
    labels = mine.impressions["labels"]
    outcomes = {"outcome.same": 1000 * labels, "outcome.other": 1000 * (1 - labels), "outcome.play": 300 + 100 * labels}
    data = replace(mine, impressions=mine.impressions | outcomes)
    recipe = _recipe(protocol="impressions")
    model, facts = _model(data, recipe), dataset_facts(data, recipe)
    (view,) = Judge(data, sequence_spec(model), recipe.split, "test", facts.item_popularity)(model).values()
    assert set(view.totals) == {"auc", "auc.same", "auc.other"}
    assert view.totals["auc.same"] == pytest.approx(view.totals["auc"])
    assert view.totals["auc.other"] == pytest.approx(1 - view.totals["auc"])


def test_a_sample_chooses_the_epoch_and_fewer_users_are_judged_where_the_recipe_says_so(mine: Prepared) -> None:
    recipe = _recipe(protocol="time", valid_queries=9, valid_negatives=50, test_users=4)
    model, facts = _model(mine, recipe), dataset_facts(mine, recipe)
    spec, popularity = sequence_spec(model), facts.item_popularity
    choosing = Judge(mine, spec, recipe.split, "valid", popularity, choosing=True)(model)
    assert set(choosing) == {""}
    assert len(choosing[""].users) == 9
    whole = Judge(mine, spec, _recipe(protocol="time").split, "test", popularity)(model)
    some = Judge(mine, spec, recipe.split, "test", popularity)(model)
    assert len(some["pool"].users) == 4
    assert set(some["pool"].users) < set(whole["pool"].users)


def test_lists_of_a_large_log_are_of_whole_users_and_the_same_however_they_are_scored(
    mine: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(protocol="time")
    model, facts = _model(mine, recipe), dataset_facts(mine, recipe)
    spec, popularity = sequence_spec(model), facts.item_popularity
    whole = Judge(mine, spec, recipe.split, "test", popularity)(model)
    monkeypatch.setattr(evaluate, "_POOLED", 10)
    pieces = Judge(mine, spec, recipe.split, "test", popularity)(model)
    for view in ("", "pool"):
        assert pieces[view].users.tolist() == whole[view].users.tolist()
        for name, values in whole[view].values.items():
            assert pieces[view].values[name] == pytest.approx(values)
    monkeypatch.setattr(evaluate, "_LISTED", 50)
    some = Judge(mine, spec, recipe.split, "test", popularity)(model)
    kept = set(some[""].users.tolist())
    assert 1 < len(kept) < len(set(whole[""].users.tolist()))
    assert 25 < len(some[""].users) <= 50
    assert sorted(some[""].users) == sorted(user for user in whole[""].users.tolist() if user in kept)
    assert len(some["alive"].users) == len(whole["alive"].users)  # ranked among items alive: no stored lists


def test_means_name_their_view_and_skip_what_is_not_defined() -> None:
    main = View(np.array([0, 1]), {"uauc": np.array([0.5, np.nan])}, totals={"auc": 0.6})
    pool = View(np.array([0, 1]), {"gauc": np.array([1.0, 0.0])}, {"gauc": np.array([1.0, 3.0])})
    assert means({"": main, "pool": pool}) == {"auc": 0.6, "uauc": 0.5, "pool.gauc": 0.25}
    assert View(np.zeros(0), {"x": np.zeros(0)}).means() == {"x": 0.0}


@pytest.mark.parametrize("protocol", ["leave_last_out", "time", "impressions"])
def test_a_score_that_is_no_number_fails_the_run(mine: Prepared, protocol: str) -> None:
    recipe = _recipe(protocol=protocol)
    model, facts = _model(mine, recipe), dataset_facts(mine, recipe)
    judge = Judge(mine, sequence_spec(model), recipe.split, "test", facts.item_popularity)
    spoil: Callable[[torch.Tensor], object] = lambda weight: weight.fill_(float("nan"))  # noqa: E731
    with torch.no_grad():
        spoil(model.get_parameter("items.weight"))
    with pytest.raises(MetricsError):
        judge(model)
