from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import http_sf
import pytest
import yaml

from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from contract.experiments.buckets import bucket
from contract.experiments.parse import parse_experiments

FOLDER = Path(__file__).parent / "vectors"
VECTORS = json.loads((FOLDER / "assignment.json").read_text(encoding="utf-8"))
EXAMPLE = (FOLDER / "experiments.yaml").read_text(encoding="utf-8")
NOW_MS = VECTORS["now_ms"]


@pytest.fixture(scope="module")
def snapshot() -> ExperimentsSnapshot:
    return snapshot_of(yaml.safe_load(EXAMPLE))


@pytest.mark.parametrize("vector", VECTORS["hashes"], ids=lambda vector: f"{vector['stage']}-{vector['unit']}")
def test_hash_is_that_of_the_specification(vector: dict[str, str | int]) -> None:
    assert int(str(vector["first_8_bytes"]), 16) % 10_000 == vector["bucket"]
    assert bucket(str(vector["salt"]), vector["stage"], str(vector["unit"])) == vector["bucket"]  # type: ignore[arg-type]


def test_config_digest_is_that_of_the_specification(snapshot: ExperimentsSnapshot) -> None:
    assert snapshot.digest == VECTORS["digest"] == "7d0a290dc910"


@pytest.mark.parametrize("vector", VECTORS["decisions"], ids=lambda vector: f"{vector['unit']}-{vector['reason']}")
def test_decision_is_that_of_the_specification(vector: dict[str, object], snapshot: ExperimentsSnapshot) -> None:
    unit = str(vector["unit"])
    attributes = vector["attributes"]
    assert isinstance(attributes, dict)
    assert bucket("global-2026h1", "holdout", unit) == vector["holdout"]
    decision = snapshot.decide(unit, attributes, NOW_MS)
    rank = decision.layers[0]
    fields = ("experiment", "arm", "reason", "slot", "arm_bucket", "forced")
    assert {name: getattr(rank, name) for name in fields} == {name: vector[name] for name in fields}
    assert decision.header() == vector["header"]


@pytest.mark.slow
def test_shares_over_many_units_are_those_measured_by_the_prototype(snapshot: ExperimentsSnapshot) -> None:
    counts = {"treatment": 0, "control": 0, "holdout": 0}
    for unit in range(200_000):
        rank = snapshot.decide(unit, {"platform": "ios"}, NOW_MS).layers[0]
        if rank.experiment == "pyramid-vs-mgnm" and rank.arm is not None:
            counts[rank.arm] += 1
        counts["holdout"] += rank.reason == "holdout"
    assert [round(count / 2000, 2) for count in counts.values()] == [9.87, 9.77, 0.97]


def test_yaml_and_json_of_one_file_have_one_digest_and_one_config() -> None:
    config, digest = parse_experiments(yaml.safe_load(EXAMPLE))
    document = json.loads(json.dumps(yaml.safe_load(EXAMPLE), default=lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ")))
    assert parse_experiments(document) == (config, digest)
    assert parse_experiments(yaml.safe_load(yaml.safe_dump(document))) == (config, digest)


def test_decisions_do_not_depend_on_the_seed_of_the_interpreters_hash() -> None:
    program = (
        "import sys, yaml; from contract.experiments.assignment import snapshot_of;"
        "s = snapshot_of(yaml.safe_load(sys.stdin.read()));"
        f"print([s.decide(str(u), {{'platform': 'ios'}}, {NOW_MS}).header() for u in range(2000)])"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=EXAMPLE, text=True, capture_output=True, check=True, cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(answers) == 1
    assert "treatment" in answers.pop()


def _parsed(header: str) -> dict[str, tuple[str, dict[str, object]]]:
    """Parse with an independent RFC 9651 implementation."""
    members = http_sf.parse(header.encode(), tltype="dictionary")
    return {
        key: (str(value), {name: _text(one) for name, one in parameters.items()})
        for key, (value, parameters) in members.items()
    }


def _text(value: object) -> object:
    return value if isinstance(value, int) else str(value)


def test_header_is_a_structured_field(snapshot: ExperimentsSnapshot) -> None:
    header = snapshot.decide("12", {"platform": "ios"}, NOW_MS).header()
    assert _parsed(header) == {
        "rank": ("pyramid-vs-mgnm:treatment", {"b": 9292, "r": "split"}),
        "blend": ("none", {"r": "unallocated"}),
    }


def test_hidden_bucket_leaves_the_rest_of_the_header(snapshot: ExperimentsSnapshot) -> None:
    header = snapshot.decide("12", {"platform": "ios"}, NOW_MS).header(show_bucket=False)
    assert header == "rank=pyramid-vs-mgnm:treatment;r=split, blend=none;r=unallocated"


def test_every_vector_renders_as_a_structured_field_with_all_layers_in_order(snapshot: ExperimentsSnapshot) -> None:
    for vector in VECTORS["decisions"]:
        assert list(_parsed(vector["header"])) == ["rank", "blend"]


@pytest.mark.parametrize("reason", ["not_ranked", "error"])
def test_response_that_decided_nothing_says_so_for_every_layer(snapshot: ExperimentsSnapshot, reason: str) -> None:
    header = snapshot.undecided(reason).header()  # type: ignore[arg-type]
    assert _parsed(header) == {"rank": ("none", {"r": reason}), "blend": ("none", {"r": reason})}


@pytest.mark.parametrize("unit", [None, "", True, 1.0, "\ud800", "x" * 129, "é" * 65, 10**2000, [], {}])
def test_what_is_no_unit_is_never_hashed(snapshot: ExperimentsSnapshot, unit: object) -> None:
    decision = snapshot.decide(unit, {}, NOW_MS)
    assert decision.unit is None
    assert [(layer.reason, layer.slot) for layer in decision.layers] == [("no_unit", None)] * 2
    assert decision.header() == "rank=none;r=no_unit, blend=none;r=no_unit"


def test_integer_unit_is_its_decimal_text(snapshot: ExperimentsSnapshot) -> None:
    assert snapshot.decide(12, {"platform": "ios"}, NOW_MS) == snapshot.decide("12", {"platform": "ios"}, NOW_MS)
