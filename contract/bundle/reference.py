"""The scores and inputs that a model met on its validation queries: what a service compares its traffic with.

The file `reference.json` of a run and of a bundle; it is optional in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.bundle.manifest import REFERENCE
from contract.command_line import CommandError

MAX_BYTES: Final = 65_536
MAX_EDGES: Final = 32

LENGTHS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
"""The largest length of a history in each bucket but the last."""

AGES: Final = (60, 3_600, 21_600, 86_400, 259_200, 604_800, 2_592_000, 7_776_000)
"""The largest age in each bucket but the last, in seconds: 1 min, 1 h, 6 h, 1 d, 3 d, 7 d, 30 d, 90 d."""

_LARGEST: Final = 2**53
_Count = Annotated[int, Field(ge=0, le=_LARGEST)]
_Score = Annotated[float, Field(ge=-3e38, le=3e38)]  # of float32


class BadReferenceError(CommandError, ValueError):
    """The file is malformed; the message names the field."""


class _Open(BaseModel):
    """Fields that a later version adds are ignored; values are immutable."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Binned(_Open):
    counts: tuple[_Count, ...]

    def _check(self, edges: Sequence[float]) -> None:
        if len(self.counts) != len(edges) + 1:
            raise ValueError("there must be one more count than edges")
        if any(low >= high for low, high in pairwise(edges)):
            raise ValueError("edges must rise")
        if not sum(self.counts):
            raise ValueError("there are no observations")


class BinnedScores(_Binned):
    """How many scores are in each bucket.

    Attributes:
        edges: (K - 1,) the largest score of each bucket but the last; they rise, as float32 too.
        counts: (K,); at least one observation.
    """

    edges: Annotated[tuple[_Score, ...], Field(min_length=1, max_length=MAX_EDGES)]

    @model_validator(mode="after")
    def _is_whole(self) -> BinnedScores:
        self._check(np.array(self.edges, dtype=np.float32).tolist())
        return self


class BinnedWhole(_Binned):
    """How many whole numbers are in each bucket; fields as those of scores."""

    edges: Annotated[tuple[_Count, ...], Field(min_length=1, max_length=MAX_EDGES)]

    @model_validator(mode="after")
    def _is_whole(self) -> BinnedWhole:
        self._check(self.edges)
        return self


class Items(_Open):
    """Items of the queries, by whether the model's training met them."""

    known: _Count
    unknown: _Count

    @property
    def unknown_share(self) -> float | None:
        """Return the share of unknown items, None if there are no items."""
        return self.unknown / (self.known + self.unknown) if self.known + self.unknown else None


class Reference(_Open):
    """See docs/contract.md.

    Attributes:
        queries: of validation that were counted.
        scores: of candidates of these queries, by the model of the bundle.
        lengths: of the histories, in behaviours that the model reads.
        ages: seconds from the newest behaviour to the query; None if the data have no times.
        candidates: of these queries.
        behaviours: of their histories, as far as the model reads them.
    """

    format: Annotated[Literal[1], Field(alias="schema")] = 1
    queries: _Count
    scores: BinnedScores
    lengths: BinnedWhole
    ages: BinnedWhole | None = None
    candidates: Items
    behaviours: Items

    model_config = ConfigDict(populate_by_name=True)


def parse_reference(content: bytes) -> Reference:
    """Read the file.

    Raises:
        BadReferenceError: too large or malformed.
    """
    if len(content) > MAX_BYTES:
        raise BadReferenceError(f"{REFERENCE} is larger than {MAX_BYTES} bytes")
    try:
        return Reference.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise BadReferenceError(f"{REFERENCE}: {place}: {first['msg']}") from error


def format_reference(reference: Reference) -> bytes:
    """Return the content of the file."""
    return (reference.model_dump_json(indent=2, by_alias=True) + "\n").encode()
