"""Messages between the service and the process of a shadow, over a socket pair: a length, and so many bytes.

The service sends pickles, which only that process reads. The process runs the graphs of a bundle, so the service does
not trust it: it answers with JSON of a bounded size.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from service.inference.engine import ProviderChoice
from service.metrics.buckets import DIFFERENCES
from service.shadow.comparison import Comparison, Differences

HEAD: Final = struct.Struct("<I")
MAX_ANSWER: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Start:
    """The bundle of a process, and its limits; sent as JSON on its command line."""

    directory: str
    max_bundle_bytes: int
    map_tables: bool
    provider: ProviderChoice
    threads: int
    memory_bytes: int
    signers: str | None  # public keys; None accepts every bundle


class Asked(NamedTuple):
    """One ranking for the shadow to score."""

    user_id: str
    records: bytes  # behaviours, as they were read for the answer
    item_ids: list[str]  # (N,) that the served bundle has scored
    scores: bytes  # (N,) float32
    request_time_ms: int
    context: dict[str, object]


class Answered(NamedTuple):
    """The results of a batch."""

    seconds: float  # of the shadow's run
    comparisons: list[Comparison | None]  # None where the shadow failed on the ranking


class Malformed(Exception):  # noqa: N818 - the name describes the message
    """The process has sent something that is not an answer."""


def answer_of(content: bytes, rankings: int) -> Answered:
    """Read an answer.

    Raises:
        Malformed: it is not one to so many rankings.
    """
    try:
        found = orjson.loads(content)
        seconds, rows = _number(found["seconds"]), found["rows"]
        if len(rows) != rankings:
            raise ValueError("not one result for each ranking")
        return Answered(seconds, [None if row is None else _comparison(row) for row in rows])
    except (ValueError, TypeError, KeyError) as error:
        raise Malformed(str(error)[:200]) from error


def _comparison(row: Any) -> Comparison:  # Any: JSON
    scored, correlation, overlap, above, below = row
    return Comparison(
        int(scored),
        None if correlation is None else _number(correlation),
        None if overlap is None else _number(overlap),
        _differences(above),
        _differences(below),
    )


def _differences(row: Any) -> Differences:  # Any: JSON
    total, squares, buckets = row
    if len(buckets) != len(DIFFERENCES) + 1:
        raise ValueError("not one count for each bucket")
    return Differences(abs(_number(total)), abs(_number(squares)), tuple(max(0, int(_number(one))) for one in buckets))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)
