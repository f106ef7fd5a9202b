"""Each check fails for a model that breaks its promise, and a sound model passes all."""

from __future__ import annotations

import pytest

from models.checks import learning
from models.checks.every import run_checks
from models.checks.subject import Subject

FAULTS = {
    "WrongShape": "state scores and explanations have the promised shapes",
    "NotFinite": "scores of any history are finite",
    "OtherScoreAll": "score all equals score",
    "OtherLists": "lists of candidates score as each candidate does",
    "MindsNeighbours": "other rows of a batch do not change the scores of a row",
    "MindsCandidates": "other candidates do not change the score of a candidate",
    "MindsPadding": "the content of padding never reaches a score",
    "CountsFromTheOldest": "more padding does not change scores",
    "Random": "evaluation is repeatable to the bit",
    "Forgets": "a checkpoint gives the same scores",
    "SeesTheFuture": "training does not see events after the request",
    "Unused": "every weight that learns gets a gradient",
    "NoLabels": "impressions can be learnt too",
    "NoWeights": "the loss counts each row by its weight",
    "LearnsAnotherItem": "ten users can be learnt by heart",
    "ScalesByItems": "old items have the scores of yesterday after a warm start",
    "GrowsAside": "tables grow by rows and keep those of yesterday",
}


def failures(name: str) -> dict[str, str]:
    subject = Subject(f"tests.unit.models.faulty_models:{name}", {"width": 16})
    return {result.sentence: result.reason for result in run_checks(subject) if result.outcome == "failed"}


def test_a_sound_model_passes_every_check() -> None:
    assert failures("Sound") == {}


@pytest.mark.parametrize(("name", "sentence"), FAULTS.items())
def test_a_check_fails_for_a_model_that_breaks_its_promise(name: str, sentence: str) -> None:
    found = failures(name)
    assert sentence in found
    assert found[sentence].startswith("CheckFailedError: ")


def test_a_part_whose_gradient_comes_every_few_steps_is_no_fault() -> None:
    config = {"length": 8, "width": 8, "interests": 3, "rnn_width": 5, "rnn_gradient_every": 4}
    learning.every_weight_that_learns_gets_a_gradient(Subject("mgnm", config))
