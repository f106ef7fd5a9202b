from __future__ import annotations

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.parse import parse_experiments
from deploy.experiments import current
from service.metrics import Metrics


def _shares(metrics: Metrics) -> list[str]:
    lines = metrics.render().decode().splitlines()
    return [line for line in lines if line.startswith("ranker_experiment_arm_share{")]


def test_planned_share_of_each_arm_is_told_from_the_file_in_force() -> None:
    metrics = Metrics()
    snapshot = ExperimentsSnapshot(*parse_experiments(current()))
    metrics.watch_arms(lambda: snapshot)
    assert _shares(metrics) == [
        'ranker_experiment_arm_share{experiment="pyramid-vs-mgnm",variant="control"} 0.5',
        'ranker_experiment_arm_share{experiment="pyramid-vs-mgnm",variant="treatment"} 0.5',
    ]


def test_experiment_that_was_stopped_plans_nothing() -> None:
    document = current()
    document["layers"][0]["experiments"][0]["status"] = "stopped"
    snapshot = ExperimentsSnapshot(*parse_experiments(document))
    metrics = Metrics()
    metrics.watch_arms(lambda: snapshot)
    assert _shares(metrics) == []


def test_no_file_in_force_plans_nothing() -> None:
    metrics = Metrics()
    metrics.watch_arms(lambda: None)
    assert _shares(metrics) == []
