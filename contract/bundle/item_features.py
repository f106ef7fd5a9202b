"""Item features as a bundle describes them, and the way from a caller's raw features to the codes that a graph reads.

Code 0 means no value, or one that training never met. Symbols: F features, w the most values of one of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

FeatureKind = Literal["category", "list", "words", "number"]
"""One value; several values; the words of a text; a number by its bucket: the kinds of a mapping (docs/own-data.md)."""

MAX_FEATURES: Final = 64
MAX_VALUES: Final = 64
"""The most values of one feature, in a bundle and from a caller."""
MAX_TEXT: Final = 2_000

_WORD: Final = re.compile(r"[^\W\d_]{2,}")

Codes = NDArray[np.int64]


class FeatureError(ValueError):
    """A caller's features cannot be read; the message names the feature."""


class FeatureSpec(BaseModel):
    """One feature: its values are numbered from 1 in the bundle's features.json, or by `edges`.

    Attributes:
        name: as the data set and callers name it.
        kind: how a raw value is read.
        values: the most values of one item, w.
        cardinality: one more than the largest code.
        edges: of a number, rising: its code is one more than the number of edges at or below it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    kind: FeatureKind
    values: Annotated[int, Field(ge=1, le=MAX_VALUES)]
    cardinality: Annotated[int, Field(ge=1)]
    edges: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()

    @model_validator(mode="after")
    def _edges_fit(self) -> FeatureSpec:
        if self.kind == "number" and (
            len(self.edges) != self.cardinality - 2 or list(self.edges) != sorted(self.edges)
        ):
            raise ValueError(f"{self.name}: its edges are not {self.cardinality - 2} rising numbers")
        return self


class FeatureCoder:
    """Turns raw features into codes.

    Args:
        specs: of a bundle.
        names: the values of each feature by their codes from 1; none for numbers.
    """

    def __init__(self, specs: Sequence[FeatureSpec], names: Mapping[str, Sequence[str]]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._codes = {
            spec.name: {name: code for code, name in enumerate(names.get(spec.name, ()), start=1)} for spec in specs
        }

    def reads(self, name: str) -> bool:
        """Return whether the bundle reads a feature."""
        return name in self._specs

    def codes(self, features: Mapping[str, object]) -> dict[str, Codes]:
        """Return the codes (w,) of one item by feature; a feature that is missing has no value.

        Raises:
            FeatureError: a feature that the bundle does not read, or a value of the wrong type or size.
        """
        if unknown := next((name for name in features if name not in self._specs), None):
            raise FeatureError(f"{str(unknown)[:64]}: the model reads no such feature")
        return {name: self._coded(spec, features.get(name)) for name, spec in self._specs.items()}

    def usable_codes(self, features: Mapping[str, object]) -> tuple[dict[str, Codes], int]:
        """Return the codes as `codes` does, without the features that it refuses, and their number.

        Two bundles of one experiment may read other features, so a caller's features fit one of them better.
        """
        refused, found = 0, {}
        for name, spec in self._specs.items():
            try:
                found[name] = self._coded(spec, features.get(name))
            except FeatureError:
                found[name], refused = np.zeros(spec.values, dtype=np.int64), refused + 1
        return found, refused + sum(name not in self._specs for name in features)

    def _coded(self, spec: FeatureSpec, value: object) -> Codes:
        codes = np.zeros(spec.values, dtype=np.int64)
        if value is None:
            return codes
        if spec.kind == "number":
            codes[0] = 1 + np.searchsorted(spec.edges, _number(spec, value), side="right")
            return codes
        known = self._codes[spec.name]
        found = [code for name in dict.fromkeys(_names(spec, value)) if (code := known.get(name))][: spec.values]
        codes[: len(found)] = found
        return codes


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case: two letters or more."""
    return _WORD.findall(text.lower())


def _is_number(value: object) -> bool:
    """Return whether a value is a number of 64 bits; a whole number of JSON may have thousands of digits."""
    if isinstance(value, bool):
        return False
    return (isinstance(value, int) and abs(value) < 2**63) or (isinstance(value, float) and math.isfinite(value))


def _number(spec: FeatureSpec, value: object) -> float:
    if not _is_number(value):
        raise FeatureError(f"{spec.name}: expected a finite number")
    return float(cast(float, value))


def _names(spec: FeatureSpec, value: object) -> list[str]:
    if spec.kind == "words":
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise FeatureError(f"{spec.name}: expected a text of at most {MAX_TEXT} characters")
        return words_of(value)
    listed = value if isinstance(value, list) else [value]
    if (spec.kind == "category" and len(listed) != 1) or len(listed) > MAX_VALUES:
        raise FeatureError(
            f"{spec.name}: expected {'one value' if spec.kind == 'category' else f'at most {MAX_VALUES}'}"
        )
    return [_name(spec, one) for one in listed]


def _name(spec: FeatureSpec, value: object) -> str:
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        return value
    if isinstance(value, int) and _is_number(value):
        return str(value)
    raise FeatureError(f"{spec.name}: expected a string or a whole number")
