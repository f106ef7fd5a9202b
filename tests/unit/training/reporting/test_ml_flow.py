"""MLflow, with its real client: a database file, and a server that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter import __main__ as exporter
from tests.support.redis_server import free_port
from training import __main__ as training
from training.recipe import parse_recipe
from training.reporting.ml_flow import allowed, artifacts, flat

if TYPE_CHECKING:
    from mlflow import MlflowClient

RECIPE = """
dataset = "small"
model = "sasrec"
[config]
length = 8
width = 8
blocks = 1
heads = 1
inner = 8
[training]
epochs = 2
rows_per_epoch = 200
learning_rate = 0.01
"""


def test_a_recipe_is_flat_parameters_and_metrics_have_allowed_names() -> None:
    recipe = parse_recipe({"dataset": "small", "model": "bpr", "config": {"width": 8}}, "test")
    params = dict(flat(recipe.model_dump(mode="json")))
    assert (params["config.width"], params["training.batch"], params["positive.weights"]) == (8, 256, {})
    assert allowed("valid/unseen.ndcg@10") == "valid/unseen.ndcg_at_10"


def test_artifacts_of_a_local_file_lie_beside_it(tmp_path: Path) -> None:
    assert artifacts(f"sqlite:///{tmp_path}/ml.db") == (tmp_path / "mlartifacts").as_uri()
    assert artifacts("https://mlflow.example") is None


def _train(tmp_path: Path, data: Path, uri: str) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    where = ["--data", str(data), "--out", str(tmp_path / "runs"), "--device", "cpu", "--mlflow", uri]
    assert training.main(["train", str(tmp_path / "recipe.toml"), *where]) == 0
    (facts,) = (tmp_path / "runs").glob("*/*/*/run.json")
    return facts.parent


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(uri)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own
@pytest.mark.usefixtures("operators_read_once")
def test_mlflow_gets_parameters_metrics_files_and_the_model_card(tmp_path: Path, data: Path) -> None:
    uri = f"sqlite:///{tmp_path}/ml.db"
    folder = _train(tmp_path, data, uri)
    client = _client(uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (folder.name, "FINISHED")
    assert run.data.params["training.learning_rate"] == "0.01"
    assert run.data.tags["folder"] == str(folder)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [one.step for one in history] == [1, 2]
    assert run.data.metrics["test/ndcg_at_10"] > 0
    assert {"recipe.json", "metrics.json", "run.json", "log.jsonl", "curves.png"} <= {
        file.path for file in client.list_artifacts(run.info.run_id)
    }
    assert exporter.main([str(folder), "--out", str(tmp_path / "bundles"), "--force", "--mlflow", uri]) == 0
    assert [file.path for file in client.list_artifacts(run.info.run_id, "sasrec@1")] == ["sasrec@1/model_card.md"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_a_tracking_server_that_is_gone_is_said_once(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(tmp_path, data, f"http://127.0.0.1:{free_port()}")
    out = capsys.readouterr().out
    assert out.count("MLflow: ") == 1
    assert "the training goes on without it" in out
