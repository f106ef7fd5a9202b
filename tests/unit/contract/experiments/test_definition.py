"""For each rule of the experiment file, a file that breaks only this rule, and the exact words of the refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.experiments.parse import canonical_json, parse_experiments
from contract.experiments.problems import ExperimentsError
from tests.support.experiment_files import drop, example, put

BROKEN = yaml.safe_load((Path(__file__).parent / "broken_experiments.yaml").read_text(encoding="utf-8"))


def problems(document: object) -> list[str]:
    with pytest.raises(ExperimentsError) as caught:
        parse_experiments(document)
    return list(caught.value.problems)


def test_example_of_the_specification_is_accepted() -> None:
    config, digest = parse_experiments(example())
    assert digest == "7d0a290dc910"
    assert [layer.key for layer in config.layers] == ["rank", "blend"]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken["rule"])
def test_file_that_breaks_one_rule_is_refused_in_exact_words(broken: dict[str, Any]) -> None:
    document = example(overrides__units={})
    for place, value in broken.get("set", {}).items():
        put(document, place, value)
    if "drop" in broken:
        drop(document, broken["drop"])
    assert problems(document) == [broken["problem"]]


def test_more_layers_than_eight_are_refused() -> None:
    layers = [{"key": f"l{place}", "salt": f"s{place}", "defaults": {}} for place in range(9)]
    assert problems(example(overrides__units={}, layers=layers)) == [
        "layers: Tuple should have at most 8 items after validation, not 9"
    ]


def test_more_experiments_in_a_layer_than_64_are_refused() -> None:
    one = {**example()["layers"][0]["experiments"][0], "status": "stopped"}
    many = [{**one, "key": f"e{place}", "salt": f"s{place}"} for place in range(65)]
    assert problems(example(overrides__units={}, layers__0__experiments=many)) == [
        "layers.0.experiments: Tuple should have at most 64 items after validation, not 65"
    ]


def test_more_arms_than_eight_are_refused() -> None:
    arms = [{"key": f"a{place}", "buckets": [[place, place + 1]]} for place in range(9)]
    assert problems(example(overrides__units={}, layers__0__experiments__0__arms=arms)) == [
        "layers.0.experiments.0.arms: Tuple should have at most 8 items after validation, not 9"
    ]


@pytest.mark.parametrize("document", [None, [], "text", 1, {}, {"schema": 1}, {1: {2: 3}}])
def test_document_of_another_shape_is_refused(document: object) -> None:
    assert problems(document)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {True: 1}, {None: 1}, {1.5: 1}, {"a": b"x"}, {"a": {1, 2}}, "\ud800"]
)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ExperimentsError, match="not plain data"):
        canonical_json(value)


def test_document_that_holds_itself_is_refused() -> None:
    document: dict[str, object] = {}
    document["self"] = document
    assert "not plain data" in problems(document)[0]


def test_file_over_the_limit_is_refused() -> None:
    assert problems(example(revision="x" * 1_048_576)) == ["larger than 1048576 bytes"]


def test_stopped_experiment_gives_its_slots_free() -> None:
    parse_experiments(
        example(layers__0__experiments__0__status="stopped", layers__0__experiments__1__slots=[[0, 3000]])
    )


def test_problems_are_few_and_short_whatever_the_file() -> None:
    found = problems(example(layers=[{"key": "x" * 10_000, "bad": place} for place in range(8)]))
    assert len(found) == 8
    assert sum(map(len, found)) < 2000


def test_problem_does_not_repeat_a_long_value_of_the_file() -> None:
    long = "y" * 100_000
    for place in ("revision", "layers__0__key", "layers__0__salt", "layers__0__experiments__0__kind"):
        assert all(len(problem) < 300 for problem in problems(example(**{place: long})))


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ({"units": {"canary": {"rank": 5}}}, "overrides.units: "),
        ({"units": {"canary": {"rank": float("nan")}}}, "not plain data: overrides.units is "),
        ({"units": {"canary": {"RANK": "x:y"}}}, "overrides.units: "),
        ({"units": {"canary": 5}}, "overrides.units: "),
        ({"canary": {"rank": "x:y"}}, "overrides: "),
        ({"header_enabled": "canary"}, "overrides.header_enabled: "),
    ],
)
def test_a_problem_of_an_override_names_no_unit(overrides: dict[str, Any], place: str) -> None:
    found = problems(example(overrides=overrides))
    assert found[0].startswith(place)
    assert "canary" not in str(found)
