"""The weights of a model's targets in its score, as a parameter of an arm: `targets: {click: 1.0, like: 4.0}`.

A file may write them as a mapping; everywhere else (answers, the ranking log, the analysis) a parameter is one value,
so the mapping becomes text: `click=1.0,like=4.0`. A target that is not named keeps the bundle's weight.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

TARGETS: Final = "targets"
"""The parameter; empty text names no weight."""
MAX_TARGETS: Final = 16
TARGET_PATTERN: Final = r"^[a-z][a-z0-9_]{0,31}$"


def with_text(parameters: object) -> object:
    """Return parameters of a file with the weights as text; anything else as it is, for the type to refuse."""
    if not isinstance(parameters, dict) or not isinstance(parameters.get(TARGETS), dict):
        return parameters
    weights = parameters[TARGETS]
    return {**parameters, TARGETS: ",".join(f"{name}={_written(value)}" for name, value in weights.items())}


def weights_of(text: str) -> Mapping[str, float]:
    """Return the weights by target.

    Raises:
        ValueError: it is malformed; the message names the target.
    """
    weights: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, value = (one.strip() for one in part.partition("="))
        if not re.fullmatch(TARGET_PATTERN, name):
            raise ValueError(f"{name[:64]!r} is not a name of a target: write targets: {{click: 1.0}}")
        if name in weights:
            raise ValueError(f"{name} has two weights")
        weights[name] = _number(name, value)
    if len(weights) > MAX_TARGETS:
        raise ValueError(f"more than {MAX_TARGETS} targets")
    return weights


def _written(value: object) -> str:
    """Return a number as text, and what is not one so that `weights_of` refuses it."""
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else "?"


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{name}: the weight must be a number") from None
    if not math.isfinite(number) or abs(number) > 1e6:
        raise ValueError(f"{name}: the weight must be finite, and from -1,000,000 to 1,000,000")
    return number
