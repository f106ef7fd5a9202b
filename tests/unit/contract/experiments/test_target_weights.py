"""The weights of targets: a mapping in the file, one text everywhere else."""

from __future__ import annotations

import pytest

from contract.experiments.parse import parse_experiments
from contract.experiments.target_weights import MAX_TARGETS, weights_of
from tests.support.experiment_files import servable

ARM = "layers__0__experiments__0__arms__1__params"


def text_of(weights: object) -> object:
    document = servable(**{"layers__0__defaults__targets": {}, ARM: {"targets": weights}})
    config, _ = parse_experiments(document)
    assert config.layers[0].defaults["targets"] == ""
    return config.layers[0].experiments[0].arms[1].params["targets"]


@pytest.mark.parametrize("weights", [{"click": 1, "like": 4.5}, {"like": 0.1 + 0.2}, {"finish": -1.0}, {}])
def test_a_mapping_becomes_text_that_gives_the_same_weights(weights: dict[str, float]) -> None:
    text = text_of(weights)
    assert isinstance(text, str)
    assert weights_of(text) == weights


def test_the_order_of_a_mapping_does_not_matter() -> None:
    assert text_of({"like": 4.0, "click": 1.0}) == text_of({"click": 1.0, "like": 4.0}) == "click=1.0,like=4.0"


def test_text_is_taken_as_it_is() -> None:
    assert weights_of(str(text_of("click = 1, like=4"))) == {"click": 1.0, "like": 4.0}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("click", "click: the weight must be a number"),
        ("click=?", "click: the weight must be a number"),
        ("click=nan", "click: the weight must be finite"),
        ("like=-inf", "like: the weight must be finite"),
        ("like=2e6", "like: the weight must be finite"),
        ("=1", "'' is not a name of a target"),
        ("click=1,,like=2", "'' is not a name of a target"),
        ("click=1,click=2", "click has two weights"),
        (",".join(f"t{place}=1" for place in range(MAX_TARGETS + 1)), "more than 16 targets"),
    ],
)
def test_malformed_weights_are_refused_by_the_name_of_the_target(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        weights_of(text)
