"""The experiment file of the specification, and edits of it."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from contract.experiments.history import State, experiment_file, state_from_json, state_to_json
from contract.experiments.ramps import propose

EXAMPLE_PATH = Path(__file__).parents[1] / "contract" / "vectors" / "experiments.yaml"
NOW_MS = 1_773_000_000_000  # while the example's experiments run


def example(**edits: object) -> dict[str, Any]:
    """Return the parsed example, with values put at places like `layers__0__salt`."""
    document = copy.deepcopy(_parsed())
    for place, value in edits.items():
        put(document, place.replace("__", "."), value)
    return document


@cache
def _parsed() -> dict[str, Any]:
    document = yaml.safe_load(EXAMPLE_PATH.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def servable(**edits: object) -> dict[str, Any]:
    """Return the example without the parameter that the service does not read, with values put at places."""
    document = example()
    del document["layers"][0]["defaults"]["top_k"]
    for arm in document["layers"][0]["experiments"][1]["arms"]:
        arm["params"] = {}
    for place, value in edits.items():
        put(document, place.replace("__", "."), value)
    return document


def accepted(state: State | None, document: object, now_ms: int = NOW_MS) -> State:
    """Return the state after a file that must be accepted, as another process reads it back."""
    verdict = propose(state, experiment_file(document), now_ms)
    assert verdict.state is not None, verdict.problems
    return state_from_json(state_to_json(verdict.state))


def refusals(state: State | object, document: object, now_ms: int = NOW_MS) -> list[str]:
    """Return why a file may not follow a state, or a first file; empty if it may."""
    before = state if isinstance(state, State) else accepted(None, state, now_ms)
    return [problem.text for problem in propose(before, experiment_file(document), now_ms).problems]


def put(document: Any, place: str, value: object) -> None:
    """Set the value at a place like `layers.0.salt`."""
    parent, last = _parent(document, place)
    parent[last] = value


def drop(document: Any, place: str) -> None:
    """Remove the value at a place."""
    parent, last = _parent(document, place)
    del parent[last]


def _parent(document: Any, place: str) -> tuple[Any, str | int]:
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in path:
        document = document[part]
    return document, last
