"""Behaviours as Redis stores them: fixed 24-byte little-endian records, oldest first, newest last.

The format is a specification (docs/contract.md, with vectors): any writer may produce it. One record is

    bytes  field
    8      item key: the first 8 bytes of BLAKE2b(UTF-8 item id, digest_size=8), little-endian u64
    8      time, milliseconds since the epoch, u64
    4      play time, milliseconds, u32 (0 = none)
    1      action, 1 + its place in ACTIONS
    1      value: rating x 10, or 0
    2      checksum of the 22 bytes before, u16

The item key does not depend on any model's vocabulary, so a stored behaviour outlives every bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

ACTIONS: Final = (
    "impression",
    "click",
    "play",
    "finish",
    "like",
    "dislike",
    "comment",
    "share",
    "follow",
    "purchase",
    "rate",
)
ACTION_CODES: Final = {action: code for code, action in enumerate(ACTIONS, start=1)}
DEFAULT_ACTION: Final = "click"

RECORD: Final = np.dtype(
    [("item", "<u8"), ("time_ms", "<u8"), ("play_ms", "<u4"), ("action", "u1"), ("value", "u1"), ("check", "<u2")]
)
RECORD_BYTES: Final = RECORD.itemsize
MAX_TIME_MS: Final = 253_402_300_800_000  # the first millisecond of the year 10000: beyond it no calendar can follow
MAX_PLAY_MS: Final = 2**32 - 1
MAX_VALUE: Final = 25.5  # one byte of tenths

_WORDS = RECORD_BYTES // 2 - 1  # sixteen-bit words under the checksum
_WEIGHTS = np.arange(1, 2 * _WORDS, 2, dtype=np.uint32)
_CHECK_START = np.uint32(0xB5AD)  # not zero, so that a record of zero bytes is not valid
_CHECK_PRIME = np.uint32(65_521)  # a prime: a change of one word can never leave the sum unchanged

Records = NDArray[np.void]


class Unpacked(NamedTuple):
    """Valid records of several values, flat, with how many each value held."""

    records: Records  # (R,) of RECORD
    counts: NDArray[np.int64]  # (B,) valid records per value
    corrupt: NDArray[np.int64]  # (B,) records dropped per value: torn, altered or foreign


def item_key(item_id: str) -> int:
    """Return the 64-bit key of an item id (UTF-8, byte for byte)."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little")


def item_keys(item_ids: Iterable[str]) -> NDArray[np.uint64]:
    """Return the 64-bit keys of many item ids, shape (N,)."""
    blake2b = hashlib.blake2b
    digests = b"".join([blake2b(item_id.encode(), digest_size=8).digest() for item_id in item_ids])
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def checksums(records: Records) -> NDArray[np.uint16]:
    """Return the checksum of each record: (start + sum of (2i+1) * word_i) mod 65521 over its eleven 16-bit words."""
    words = np.ascontiguousarray(records).view("<u2").reshape(-1, RECORD_BYTES // 2)[:, :_WORDS]
    total = words.astype(np.uint32) @ _WEIGHTS + _CHECK_START  # at most 121 * 65535 + start: no overflow
    return (total % _CHECK_PRIME).astype(np.uint16)


def records_from_columns(
    items: NDArray[np.uint64],
    times_ms: NDArray[np.int64],
    actions: NDArray[np.uint8],
    plays_ms: NDArray[np.int64],
    values: NDArray[np.float64],
) -> Records:
    """Build checked records from columns of one length N; `values` in their own unit (a rating), stored as tenths."""
    records = np.zeros(len(items), dtype=RECORD)
    records["item"] = items
    records["time_ms"] = times_ms
    records["play_ms"] = plays_ms
    records["action"] = actions
    records["value"] = np.rint(values * 10)
    records["check"] = checksums(records)
    return records


def pack(records: Records) -> bytes:
    """Return the stored bytes of records, in their order."""
    return records.tobytes()


def unpack(values: Sequence[bytes | None]) -> Unpacked:
    """Decode the stored values of a batch of users at once; never raises on any bytes.

    A value whose length is no multiple of 24 loses its incomplete first record (the tail is what is read).
    Records with a wrong checksum or an unknown action are dropped and counted. A value without one valid record is searched for
    another alignment, so that a torn write costs one record and not the whole history.
    """
    records, valid, counts = _read([_aligned(value) for value in values])
    corrupt = counts - _per_value(valid, counts)
    if corrupt.any():
        values = [_realigned(value) if bad else value for value, bad in zip(values, corrupt, strict=True)]
        torn = np.array([0 if value is None else len(value) % RECORD_BYTES != 0 for value in values], dtype=np.int64)
        records, valid, counts = _read([_aligned(value) for value in values])
        corrupt = counts - _per_value(valid, counts) + torn
    else:
        corrupt = np.array([0 if value is None else len(value) % RECORD_BYTES != 0 for value in values], dtype=np.int64)
    return Unpacked(records[valid], _per_value(valid, counts), corrupt)


def _read(values: list[bytes]) -> tuple[Records, NDArray[np.bool_], NDArray[np.int64]]:
    counts = np.array([len(value) // RECORD_BYTES for value in values], dtype=np.int64)
    records = np.frombuffer(b"".join(values), dtype=RECORD)
    valid = (records["check"] == checksums(records)) & (records["action"] >= 1) & (records["action"] <= len(ACTIONS))
    return records, valid & (records["time_ms"] < MAX_TIME_MS), counts


def _aligned(value: bytes | None) -> bytes:
    return value[len(value) % RECORD_BYTES :] if value else b""


def _realigned(value: bytes | None) -> bytes:
    """Return the suffix-trimmed value whose alignment holds most valid records."""
    if not value:
        return b""
    trimmed = [value[: len(value) - cut] for cut in range(min(RECORD_BYTES, len(value)))]
    valid = [int(_read([_aligned(candidate)])[1].sum()) for candidate in trimmed]
    return trimmed[int(np.argmax(valid))]


def _per_value(valid: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.concatenate(([0], np.cumsum(valid)))
    stops = np.cumsum(counts)
    return np.asarray(total[stops] - total[stops - counts], dtype=np.int64)
