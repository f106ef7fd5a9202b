"""Behaviours to be appended, as the bytes that Redis stores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from contract.behaviours.records import RECORD, RECORD_BYTES, Records, pack


def in_order(behaviours: Iterable[Records]) -> list[bytes]:
    """Return the bytes of each user's behaviours, oldest first: trimming is by place."""
    users = list(behaviours)
    counts = [len(records) for records in users]
    together = np.frombuffer(b"".join([records.tobytes() for records in users]), dtype=RECORD)
    order = np.lexsort((together["time_ms"], np.repeat(np.arange(len(users)), counts)))  # stable, and one for all
    content = pack(together[order])
    stops = (RECORD_BYTES * np.cumsum(counts)).tolist()
    return [content[stop - RECORD_BYTES * count : stop] for count, stop in zip(counts, stops, strict=True)]
