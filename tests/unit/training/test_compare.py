from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training.compare import interval, per_user_means, read_systems
from training.runs import RunDirectory, RunError


def _run(path: Path, model: str, seed: int, values: list[float], users: list[int], digest: str = "d") -> RunDirectory:
    path.mkdir()
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
    assert net.by_user["ndcg@10"].tolist() == [0.5, 1.0]


def test_the_queries_of_a_user_count_as_one(tmp_path: Path) -> None:
    (system,) = read_systems([_run(tmp_path / "a", "net", 0, [1.0, 0.0, 0.0, 1.0], [0, 0, 0, 4])], "test")
    np.testing.assert_allclose(system.by_user["hr@10"], [1 / 3, 1.0])


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
