from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from training.compare import compare, read_systems
from training.judging.intervals import interval, interval_with_seeds, per_user_means
from training.runs import RunDirectory, RunError


def _run(path: Path, model: str, seed: int, values: list[float], users: list[int], digest: str = "d") -> RunDirectory:
    path.mkdir()
    (path / "recipe.json").write_text("{}")
    facts = {"model": model, "recipe_digest": "r", "seed": seed, "dataset_digest": digest, "duration_seconds": 2.0}
    (path / "run.json").write_text(json.dumps(facts))
    means = {name: float(np.mean(values)) for name in ("hr@10", "ndcg@10", "mrr@20")}
    (path / "metrics.json").write_text(json.dumps({"protocol": "leave the last 1 out", "test": means}))
    columns = {f"test.{name}": np.array(values) for name in ("hr@10", "ndcg@10", "mrr@20")}
    np.savez(path / "per_query.npz", **columns, **{"test.user": np.array(users)})
    return RunDirectory(path)


def test_seeds_of_one_recipe_are_one_system(tmp_path: Path) -> None:
    runs = [
        _run(tmp_path / "a", "pop", 0, [0.0, 1.0], [0, 1]),
        _run(tmp_path / "b", "net", 1, [1.0, 1.0], [0, 1]),
        _run(tmp_path / "c", "net", 2, [0.0, 1.0], [0, 1]),
    ]
    pop, net = read_systems(runs, "test")
    assert (pop.name, net.name, net.seeds) == ("pop", "net", [1, 2])
    assert net.by_seed["ndcg@10"].tolist() == [1.0, 0.5]
    assert net.by_user["ndcg@10"].tolist() == [[1.0, 1.0], [0.0, 1.0]]


def test_the_queries_of_a_user_count_as_one(tmp_path: Path) -> None:
    (system,) = read_systems([_run(tmp_path / "a", "net", 0, [1.0, 0.0, 0.0, 1.0], [0, 0, 0, 4])], "test")
    np.testing.assert_allclose(system.by_user["hr@10"], [[1 / 3, 1.0]])


def test_views_and_weights_keep_to_themselves() -> None:
    columns = {
        "user": np.array([0, 0, 2]),
        "auc": np.array([1.0, 0.0, np.nan]),
        "pool.user": np.array([0, 2]),
        "pool.gauc": np.array([0.2, 0.4]),
        "pool.weight.gauc": np.array([5.0, 6.0]),
        "pool.hit@5": np.array([1.0, 0.0]),
    }
    found = per_user_means(columns)
    assert set(found) == {"auc", "pool.hit@5"}  # a weighted mean cannot be paired user by user
    assert found["auc"].tolist() == [0.5]
    assert found["pool.hit@5"].tolist() == [1.0, 0.0]


def test_runs_of_different_data_are_not_compared(tmp_path: Path) -> None:
    runs = [_run(tmp_path / str(k), "net", k, [1.0], [0], digest=str(k)) for k in range(2)]
    with pytest.raises(RunError, match="different data"):
        read_systems(runs, "test")


def test_the_interval_covers_the_mean_and_is_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random(400)
    system = reference + 0.1 + 0.2 * rng.standard_normal(400)
    mean, low, high = interval(system, reference)
    assert low < mean < high
    assert mean == pytest.approx(0.1, abs=0.03)
    assert high - low == pytest.approx(2 * 1.96 * 0.2 / 20, rel=0.2)
    assert interval(system, reference) == (mean, low, high)


def test_equal_systems_differ_by_nothing() -> None:
    values = np.random.default_rng(0).random(50)
    assert interval(values, values) == (0.0, 0.0, 0.0)


def test_with_seeds_the_interval_is_wider_where_seeds_differ() -> None:
    rng = np.random.default_rng(0)
    users, reference = rng.random(300), np.zeros((3, 300))
    system = users + np.array([[-0.1], [0.0], [0.1]])
    mean, low, high = interval_with_seeds(system, reference)
    plain = interval(system.mean(axis=0), reference.mean(axis=0))
    assert mean == pytest.approx(plain[0])
    spread = np.sqrt(0.02 / 3 / 3 + users.var() / 300)  # of a mean of three seeds drawn again, and of users
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert high - low > 2 * (plain[2] - plain[1])
    assert interval_with_seeds(system, reference) == (mean, low, high)


def test_seeds_that_agree_leave_the_interval_over_users() -> None:
    rng = np.random.default_rng(0)
    system, reference = rng.random((1, 300)).repeat(2, axis=0), rng.random((1, 300))
    mean, low, high = interval_with_seeds(system, reference)
    plain = interval(system[0], reference[0])
    assert mean == pytest.approx(plain[0])
    assert high - low == pytest.approx(plain[2] - plain[1], rel=0.1)


def _judged(path: Path, model: str, value: float, **more: object) -> Path:
    """A run as it is written now, with both rankings and baselines."""
    run = _run(path, model, 0, [value, value], [0, 1])
    means = {f"{view}{name}": value for view in ("", "unseen.") for name in ("hr@10", "ndcg@10", "mrr@20")}
    baseline = dict.fromkeys(means, 0.25)
    document = {
        "protocol": "leave the last 1 out; full ranking over all items, with and without those of the history",
        "test": means,
        "first": "unseen",
        "other": "",
        "first_metric": "unseen.ndcg@10",
        "repeat_share": 0.01,
        "baselines": {"popularity": baseline, "chance": dict.fromkeys(means, 0.1)},
    }
    (path / "metrics.json").write_text(json.dumps({**document, **more}))
    columns = {f"test.{name}": np.array([value, value]) for name in means}
    np.savez(path / "per_query.npz", **columns, **{"test.user": np.arange(2), "test.unseen.user": np.arange(2)})
    return run.path


def _printed(paths: list[Path], view: str | None = None) -> str:
    output = StringIO()
    compare(paths, "test", Console(file=output, width=200, force_terminal=True, highlight=False), view)
    return output.getvalue()


def test_a_model_below_popularity_is_named_in_red_beside_the_baselines(tmp_path: Path) -> None:
    shown = _printed([_judged(tmp_path / "a", "good", 0.3), _judged(tmp_path / "b", "bad", 0.2)])
    assert "1.0% of the targets are repeats; unseen comes first" in shown
    assert shown.index("test, unseen") < shown.index("test, all")
    assert "\x1b[1;31mbad is below popularity: unseen.ndcg@10 0.2000, popularity 0.2500" in shown
    assert "good is below" not in shown
    assert "bad is below chance" not in shown
    assert shown.count("popularity") > shown.count("is below popularity")


def test_runs_of_an_older_version_are_compared_by_the_ranking_that_they_have(tmp_path: Path) -> None:
    old = _run(tmp_path / "old", "old", 0, [0.1, 0.2], [0, 1]).path
    document = json.loads((old / "metrics.json").read_text())
    document["protocol"] = "leave the last 1 out; full ranking over all items, history items included"
    (old / "metrics.json").write_text(json.dumps(document))
    new = _judged(tmp_path / "new", "new", 0.3)
    shown = _printed([old, new])
    assert "test, all" in shown
    assert "unseen" not in shown
    assert "95% interval over users" in shown
    with pytest.raises(RunError, match="no view 'unseen'"):
        _printed([old, new], "unseen")


def test_runs_of_an_older_version_are_compared_on_impressions_too(tmp_path: Path) -> None:
    shown = "time split over impressions; the items shown, and {}"
    runs = [
        _judged(tmp_path / name, name, 0.3, other=None, protocol=shown.format(words))
        for name, words in (("old", "whether they were viewed long"), ("new", "their labels"))
    ]
    assert "new" in _printed(runs)
