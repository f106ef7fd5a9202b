"""The types of the experiment file's fields, and the rules that several of its parts share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

BUCKETS: Final = 10_000
CONTROL: Final = "control"
NO_ARM: Final = "none"
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"

Scalar = str | bool | int | float
Parameters = dict[str, Scalar]
T = TypeVar("T")


def _not_reserved(key: str) -> str:
    if key == NO_ARM:
        raise ValueError(f"'{NO_ARM}' is reserved")
    return key


def _utc(value: object) -> datetime:
    text = value if isinstance(value, str) else ""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text, re.ASCII):
        raise ValueError("must be a UTC time, YYYY-MM-DDTHH:MM:SSZ")
    return datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)


def _half_open(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= bounds[0] < bounds[1] <= BUCKETS:
        raise ValueError(f"range must be half-open, not empty and inside 0-{BUCKETS}")
    return bounds


def at_least(least: int) -> Callable[[tuple[T, ...]], tuple[T, ...]]:
    """Check a length after its items: pydantic's own check would count an item with a fault as missing."""

    def check(items: tuple[T, ...]) -> tuple[T, ...]:
        if len(items) < least:
            raise ValueError(f"at least {least} needed, not {len(items)}")
        return items

    return check


Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$"), AfterValidator(_not_reserved)]
Salt = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]  # no dot: the dot separates salt, stage and unit
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Label = Annotated[str, Field(min_length=1, max_length=64)]
UtcTime = Annotated[datetime, BeforeValidator(_utc)]
Range = Annotated[tuple[int, int], AfterValidator(_half_open)]
Ranges = Annotated[tuple[Range, ...], Field(max_length=64)]
Text = Annotated[str, Field(max_length=128)]
Value = Text | bool | int | float


class Strict(BaseModel):
    """Unknown keys are errors, types are not coerced, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def distinct(what: str, values: list[str]) -> None:
    """Refuse values of which two are equal."""
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{what} must be distinct: {', '.join(repeated)}")


def disjoint(what: str, ranges: Iterable[tuple[int, int]]) -> None:
    """Refuse ranges of which two overlap."""
    ordered = sorted(ranges)
    for (_, stop), (start, _) in pairwise(ordered):
        if start < stop:
            raise ValueError(f"{what} overlap at {start}")
