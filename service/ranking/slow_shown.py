"""A slow ranking as operators see it: enough to run it again, and no one's history.

Items get other indices, drawn at random for each ranking: the same item has the same index within one ranking, and
nothing tells which item it is. Ages and play times have two digits, which keeps their order; the hour is the time.
"""

from __future__ import annotations

from random import SystemRandom
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.ranking.slow import SlowInputs, SlowRanking

_HOUR_MS: Final = 3_600_000
_RANDOM: Final = SystemRandom()


def shown(one: SlowRanking) -> dict[str, Any]:  # Any: JSON
    """Return a ranking as JSON."""
    return {
        "total_ms": _ms(one.seconds),
        "stages_ms": {name: _ms(seconds) for name, seconds in one.stages.items()},
        "at_ms": one.at_ms,
        "request_id": one.request_id,
        "trace_id": one.trace_id,
        "user": one.user,
        "arm": one.arm,
        "bundle": one.bundle,
        "digest": one.digest,
        "interleaved": one.is_interleaved,
        "status": one.status,
        "degraded": list(one.degraded),
        "batch_rows": list(one.batch_rows),
        "candidates": one.candidates,
        "history": len(one.inputs.records) if one.inputs is not None else None,
        "inputs": _inputs(one.inputs) if one.inputs is not None else None,
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _inputs(inputs: SlowInputs) -> dict[str, Any]:  # Any: JSON
    items, candidates = relabelled(inputs.items, inputs.candidates, inputs.item_count)
    records = inputs.records
    ages = inputs.request_time_ms - records["time_ms"].astype(np.int64)
    return {
        "request_time_ms": inputs.request_time_ms // _HOUR_MS * _HOUR_MS,
        "explain": inputs.explain,
        "context": dict(inputs.context),
        "described": inputs.described,
        "item_count": inputs.item_count,
        "candidates": candidates,
        "behaviours": {
            "item": items,
            "age_ms": two_digits(ages).tolist(),
            "action": records["action"].tolist(),
            "play_ms": two_digits(records["play_ms"].astype(np.int64)).tolist(),
            "value": records["value"].tolist(),
        },
    }


def relabelled(items: NDArray[np.int64], candidates: NDArray[np.int64], item_count: int) -> tuple[list[int], list[int]]:
    """Return items and candidates under other indices of the same vocabulary, equal ones alike; 0 stays 0."""
    both = np.concatenate([items, candidates])
    met, places = np.unique(both[both > 0], return_inverse=True)
    labels = np.array(_RANDOM.sample(range(1, item_count + 1), len(met)), dtype=np.int64)
    both[both > 0] = labels[places]
    return both[: len(items)].tolist(), both[len(items) :].tolist()


def two_digits(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return whole numbers to two significant digits; their order stays, but for numbers that become equal."""
    digits = np.floor(np.log10(np.maximum(np.abs(numbers), 1)))
    scale = 10.0 ** np.maximum(digits - 1, 0)
    return np.asarray(np.round(numbers / scale) * scale, dtype=np.int64)
