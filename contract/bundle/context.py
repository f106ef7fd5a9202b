"""The context of a request as a model reads it: one code per input, the same in training and in the service.

| Kind | Code |
| --- | --- |
| hour | 1 + hour of the day, in the user's time zone |
| gap | 1 + floor(log2(1 + seconds since the newest behaviour that the model reads)), at most 32 |
| category | 1 + place among `values`, of what the request or the log names |

Code 0 means not known: no behaviour, no value, or a value that training did not have. Symbols: R requests, F inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

ContextKind = Literal["hour", "gap", "category"]

MAX_INPUTS: Final = 8
MAX_VALUES: Final = 500
MAX_TEXT: Final = 128
"""Characters of a value."""
MAX_NAME: Final = 64

CONTEXT: Final = "context"
"""The input of `score` with the codes (R, F)."""
CONTEXT_ROWS: Final = "context_rows"
"""The input of `score` with the row of the state that each request reads (R,)."""

HOUR: Final = "hour"
GAP: Final = "gap"
OFFSET: Final = "tz_offset"
"""The user's local time minus UTC in minutes: not an input itself, it shifts the hour."""
MIN_OFFSET, MAX_OFFSET = -720, 840
RESERVED: Final = frozenset({HOUR, GAP})
MAX_TOLD: Final = 16
"""Entries of the context of one request."""

_HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000
_GAP_EDGES_MS: Final = 1_000 * (2 ** np.arange(1, 32, dtype=np.int64) - 1)  # 1, 3, 7, ... seconds
_CARDINALITIES: Final = {"hour": 25, "gap": len(_GAP_EDGES_MS) + 2}

Codes = NDArray[np.int64]
InputName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Offset = Annotated[int, Field(ge=MIN_OFFSET, le=MAX_OFFSET)]


class ContextSpec(BaseModel):
    """One input.

    Attributes:
        kind: how its code is made.
        name: `hour`, `gap`, or the name of the attribute in the log and in requests.
        values: of a category; the k-th has code k + 1.
        offset_minutes: of the hour: local time minus UTC where a request does not tell.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ContextKind
    name: InputName
    values: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=MAX_TEXT)], ...], Field(max_length=MAX_VALUES)
    ] = ()
    offset_minutes: Offset = 0

    @model_validator(mode="after")
    def _fits(self) -> ContextSpec:
        if (self.kind == "category") == (self.name in {*RESERVED, OFFSET}) or (
            self.kind != "category" and self.name != self.kind
        ):
            raise ValueError(f"{self.name}: not a name for an input of the kind {self.kind}")
        if bool(self.values) > (self.kind == "category") or len(set(self.values)) < len(self.values):
            raise ValueError(f"{self.name}: only a category has values, each once")
        return self

    @property
    def cardinality(self) -> int:
        """Return one more than the largest code."""
        return _CARDINALITIES.get(self.kind, len(self.values) + 1)


class RequestFacts(NamedTuple):
    """The facts that determine the codes of one request.

    Attributes:
        time_ms: of the request.
        newest_ms: time of the newest behaviour that the model reads; None if there is none.
        values: what the request tells, by name.
    """

    time_ms: int
    newest_ms: int | None
    values: Mapping[str, object]


class ContextCoder:
    """Turns the facts of requests into codes.

    Args:
        specs: of a bundle.

    Attributes:
        names: of everything that a request may tell this bundle.
    """

    def __init__(self, specs: Sequence[ContextSpec]) -> None:
        self._specs = tuple(specs)
        self._codes = [{value: code for code, value in enumerate(spec.values, start=1)} for spec in specs]
        told = {spec.name for spec in specs if spec.kind == "category"}
        self.names = frozenset(told | ({OFFSET} if any(spec.kind == "hour" for spec in specs) else set()))

    def codes(self, requests: Sequence[RequestFacts]) -> Codes:
        """Return the codes (R, F)."""
        codes = np.zeros((len(requests), len(self._specs)), dtype=np.int64)
        for place, spec in enumerate(self._specs):
            codes[:, place] = self._column(spec, place, requests)
        return codes

    def _column(self, spec: ContextSpec, place: int, requests: Sequence[RequestFacts]) -> Codes:
        if spec.kind == "category":
            known = self._codes[place]
            found = [known.get(value_text(one.values.get(spec.name)), 0) for one in requests]
            return np.array(found, dtype=np.int64)
        times = np.array([one.time_ms for one in requests], dtype=np.int64)
        if spec.kind == "hour":
            offsets = [one.values.get(OFFSET, spec.offset_minutes) for one in requests]
            return hour_codes(times, np.array(offsets, dtype=np.int64))
        has_any = np.array([one.newest_ms is not None for one in requests], dtype=np.bool_)
        return gap_codes(times, np.array([one.newest_ms or 0 for one in requests], dtype=np.int64), has_any)


def hour_codes(times_ms: Codes, offsets_minutes: Codes | int) -> Codes:
    """Return the codes of hours of the day (R,)."""
    local = times_ms + np.asarray(offsets_minutes, dtype=np.int64) * _MINUTE_MS
    return np.asarray(1 + local // _HOUR_MS % 24, dtype=np.int64)


def gap_codes(times_ms: Codes, newest_ms: Codes, has_any: NDArray[np.bool_]) -> Codes:
    """Return the codes of the times since the newest behaviours (R,); 0 where there is none."""
    bins = 1 + np.searchsorted(_GAP_EDGES_MS, times_ms - newest_ms, side="right")
    return np.where(has_any, bins, 0).astype(np.int64)


def context_inputs(codes: Codes, rows: Codes) -> dict[str, Codes]:
    """Return the inputs of `score` by name: codes (R, F), and the row of the state that each request reads (R,)."""
    return {CONTEXT: codes, CONTEXT_ROWS: rows}


def value_text(value: object) -> str:
    """Return a value as the log and the manifest spell it; empty if there is none. True and 1 are not the same."""
    return "" if value is None or isinstance(value, bool) else str(value)
