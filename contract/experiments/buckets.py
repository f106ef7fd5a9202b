"""The hash that places a unit, and tables over its 10,000 places.

    bucket(salt, stage, unit) = first 8 bytes, big-endian, of SHA-256("salt.stage.unit"), mod 10,000

A salt cannot contain a dot, so the hashed text is injective even if the unit contains one. Any other implementation
must reproduce the vectors in tests/contract/vectors/assignment.json.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from contract.experiments.fields import BUCKETS

Stage = Literal["holdout", "slot", "arm", "ramp"]

NO_OWNER: Final = 255  # more than any place of an experiment or of an arm


def bucket(salt: str, stage: Stage, unit: str) -> int:
    """Return the place of a unit, 0-9,999, under a salt at a stage."""
    return int.from_bytes(sha256(f"{salt}.{stage}.{unit}".encode()).digest()[:8], "big") % BUCKETS


def buckets(salt: str, stage: Stage, units: Iterable[bytes]) -> npt.NDArray[np.int64]:
    """Return `bucket` of many units, each in UTF-8."""
    prefix = f"{salt}.{stage}.".encode()
    digests = b"".join([sha256(prefix + unit).digest() for unit in units])
    return (np.frombuffer(digests, ">u8").reshape(-1, 4)[:, 0] % BUCKETS).astype(np.int64)


def place_of(prefix: bytes, unit: bytes) -> int:
    """Return the place of a unit in UTF-8; the prefix is `salt.stage.`."""
    return int.from_bytes(sha256(prefix + unit).digest()[:8], "big") % BUCKETS


def table_of(owners: Iterable[Iterable[tuple[int, int]]], over: bytes | None = None) -> bytes:
    """Return a table from bucket to the place of its owner, 255 if it has no owner."""
    table = bytearray(over if over is not None else bytes([NO_OWNER]) * BUCKETS)
    for place, ranges in enumerate(owners):
        for start, stop in ranges:
            table[start:stop] = bytes([place]) * (stop - start)
    return bytes(table)
