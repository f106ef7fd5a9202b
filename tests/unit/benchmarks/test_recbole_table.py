from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.recbole import table
from training.recipe import load_recipe


def write(results: Path, side: str, seed: int, hit: float, gain: float) -> None:
    document = {"side": "ours" if side == "ours" else "RecBole 1.2.1", "model": "bpr", "seed": seed}
    document |= {"test": {"hr@10": hit, "ndcg@10": gain}, "valid_ndcg@10": [gain]}
    with (results / "runs.jsonl").open("a") as lines:  # as run.py does
        lines.write(json.dumps(document) + "\n")


def test_a_mean_inside_the_spread_or_close_to_the_mean_is_accepted(tmp_path: Path) -> None:
    for seed, (hit, gain) in enumerate([(0.10, 0.05), (0.14, 0.05)]):
        write(tmp_path, "recbole", seed, hit, gain)
        write(tmp_path, "ours", seed, hit - 0.01, gain * (1 - 0.06 * seed))
    hits, gains = table.compared(tmp_path)
    assert hits["in_spread"]  # 8% below the mean, but between the seeds
    assert hits["accepted"]
    assert not gains["in_spread"]
    assert gains["accepted"]  # 3% below
    write(tmp_path, "ours", 0, 0.05, 0.045)
    assert [row["accepted"] for row in table.compared(tmp_path)] == [False, False]
    assert "| bpr | HR@10 | 0.0900 (0.0500, 0.1300) | 0.1200 (0.1000, 0.1400) | -25.0% | no |" in table.markdown(
        table.compared(tmp_path)
    )


def test_a_model_of_one_side_alone_has_no_row(tmp_path: Path) -> None:
    write(tmp_path, "ours", 0, 0.1, 0.05)
    assert table.compared(tmp_path) == []


def test_committed_runs_give_the_committed_table() -> None:
    results = table.HERE / "results"
    assert table.markdown(table.compared(results)) == (results / "comparison.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", table.MODELS)
def test_recipes_leave_nothing_to_our_defaults_that_recbole_lacks(model: str) -> None:
    recipe = load_recipe(table.HERE / "recipes" / f"{model}.toml")
    assert recipe.config["popularity_bias"] is False
    training = recipe.training
    assert (training.balanced, training.clip, training.weight_decay, training.patience) == (False, 0, 0, 0)
    assert (training.warm_up, training.schedule, training.learning_rate) == (0, "constant", 1e-3)
