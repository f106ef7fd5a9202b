"""The experiment file of the specification, and edits of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EXAMPLE_PATH = Path(__file__).parent / "contract" / "vectors" / "experiments.yaml"
NOW_MS = 1_773_000_000_000  # while the example's experiments run


def example(**edits: object) -> dict[str, Any]:
    """Return the parsed example, with values put at places like `layers__0__salt`."""
    document = yaml.safe_load(EXAMPLE_PATH.read_text(encoding="utf-8"))
    for place, value in edits.items():
        put(document, place.replace("__", "."), value)
    assert isinstance(document, dict)
    return document


def put(document: Any, place: str, value: object) -> None:
    """Set what stands at a place like `layers.0.salt`."""
    parent, last = _parent(document, place)
    parent[last] = value


def drop(document: Any, place: str) -> None:
    """Take out what stands at a place."""
    parent, last = _parent(document, place)
    del parent[last]


def _parent(document: Any, place: str) -> tuple[Any, str | int]:
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in path:
        document = document[part]
    return document, last
