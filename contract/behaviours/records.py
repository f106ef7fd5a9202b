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

from contract.behaviours.actions import ACTIONS

RECORD: Final = np.dtype(
    [("item", "<u8"), ("time_ms", "<u8"), ("play_ms", "<u4"), ("action", "u1"), ("value", "u1"), ("check", "<u2")]
)
RECORD_BYTES: Final = RECORD.itemsize
# the first millisecond of the year 10000, which Python's calendar cannot represent
MAX_TIME_MS: Final = 253_402_300_800_000
MAX_PLAY_MS: Final = 2**32 - 1
MAX_VALUE: Final = 25.5  # one byte of tenths

_ACTION_AT = 20  # byte of a record
_WORDS = RECORD_BYTES // 2 - 1  # sixteen-bit words under the checksum
_WEIGHTS = np.arange(1, 2 * _WORDS, 2, dtype=np.uint32)
_CHECK_START = np.uint32(0xB5AD)  # not zero, so that a record of zero bytes is not valid
_CHECK_PRIME = np.uint32(65_521)  # a prime: a change of one byte can never leave the sum unchanged
_SUMMED = 65_536  # records summed at once: bounds the memory
_MULTIPLIED = 8_192  # records of one product of floats: for much more, the library of linear algebra wakes its threads
# These weigh all twelve words: the sum minus the stored checksum is below 2**24, so float32, the fastest, is exact.
_DIFFERENCE = np.array([*_WEIGHTS, -1], dtype=np.float32)
_SEARCH_PLACES = 16_384  # places searched at once in a damaged value: bounds the memory for any length

Records = NDArray[np.void]


class Unpacked(NamedTuple):
    """Valid records of several values, flat, with the number of records per value."""

    records: Records  # (R,) of RECORD
    counts: list[int]  # (B,) valid records per value
    corrupt: list[int]  # (B,) records dropped per value: torn, altered or foreign


def item_keys(item_ids: Iterable[str]) -> NDArray[np.uint64]:
    """Return the 64-bit keys of item ids (UTF-8, byte for byte), shape (N,)."""
    blake2b = hashlib.blake2b
    digests = b"".join([blake2b(item_id.encode(), digest_size=8).digest() for item_id in item_ids])
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def checksums(records: Records) -> NDArray[np.uint16]:
    """Return the checksum of each record: (start + sum of (2i+1) * word_i) mod 65521 over its eleven 16-bit words."""
    words = np.ascontiguousarray(records).view("<u2").reshape(-1, RECORD_BYTES // 2)[:, :_WORDS]
    sums = np.empty(len(words), dtype=np.uint16)
    for start in range(0, len(words), _SUMMED):
        part = words[start : start + _SUMMED].astype(np.uint32)
        sums[start : start + _SUMMED] = (part @ _WEIGHTS + _CHECK_START) % _CHECK_PRIME  # at most 121 * 65535 + start
    return sums


def records_from_columns(
    items: NDArray[np.uint64],
    times_ms: NDArray[np.int64],
    actions: NDArray[np.uint8],
    plays_ms: NDArray[np.int64],
    values: NDArray[np.float64],
) -> Records:
    """Build records with their checksums from columns of one length N.

    `values` are in their own unit (a rating) and stored as tenths. The caller must check ranges: a value that does
    not fit its field wraps.
    """
    records = np.zeros(len(items), dtype=RECORD)
    records["item"] = items
    records["time_ms"] = times_ms
    records["play_ms"] = plays_ms
    records["action"] = actions
    records["value"] = tenths(values)
    records["check"] = checksums(records)
    return records


def tenths(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return values (0 to 25.5) as they are stored: in tenths, halves to the even neighbour."""
    return np.rint(values * 10).astype(np.uint8)


def identities(records: Records) -> NDArray[np.uint64]:
    """Return the identity of each record, shape (N, 3): its item, time, and the rest as one word.

    Two records of one user are the same behaviour if item, time, action, play time and value are all equal, as stored.
    The append script in Redis, the ranker's `recent` and `training prepare` all use this identity.
    """
    return np.ascontiguousarray(records).view(np.uint64).reshape(-1, RECORD_BYTES // 8)


def repeats(owners: NDArray[np.int64], records: Records) -> NDArray[np.bool_]:
    """Return which records repeat an earlier one of the same owner, shape (N,); the first of equal ones is False."""
    words = identities(records)
    order = np.lexsort((words[:, 2], words[:, 1], words[:, 0], owners))  # stable: equal ones stay in the order given
    again = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
    for column in (owners, words[:, 0], words[:, 1], words[:, 2]):
        ordered = column[order]
        again &= ordered[1:] == ordered[:-1]
    found = np.zeros(len(records), dtype=np.bool_)
    found[order[1:][again]] = True
    return found


def pack(records: Records) -> bytes:
    """Return the stored bytes of records, in their order."""
    return records.tobytes()


def unpack(values: Sequence[bytes | None]) -> Unpacked:
    """Decode the stored values of a batch of users at once; never raises on any bytes.

    A value of whole records, all valid, is read as it is. Any other is searched byte by byte, so that a torn write
    costs one record and not the rest of the history. The search starts at the beginning, takes the next place with a
    valid record, and drops the bytes in between. Valid means: right checksum, known action, a time before the year
    10000. `corrupt` counts a value's length in records, rounded up, minus the valid ones.
    """
    contents = [value or b"" for value in values]
    lengths = [len(value) for value in contents]
    if not any(length % RECORD_BYTES for length in lengths):
        together = b"".join(contents)
        if _are_sound(together):
            counts = [length // RECORD_BYTES for length in lengths]
            return Unpacked(np.frombuffer(together, dtype=RECORD), counts, [0] * len(counts))
    found = [_search(value) for value in contents]
    records = np.concatenate(found) if found else np.zeros(0, dtype=RECORD)
    counts = [len(valid) for valid in found]
    corrupt = [-(-length // RECORD_BYTES) - count for length, count in zip(lengths, counts, strict=True)]
    return Unpacked(records, counts, corrupt)


def _are_sound(content: bytes) -> bool:
    """Return whether all records are valid, as `_valid` does; few calls, because most values are short and sound."""
    if not 0 < len(content) <= RECORD_BYTES * _MULTIPLIED:
        return bool(_valid(np.frombuffer(content, dtype=RECORD)).all())
    words = np.frombuffer(content, dtype="<u2").reshape(-1, RECORD_BYTES // 2)
    differences = (words.astype(np.float32) @ _DIFFERENCE).astype(np.int32) + np.int32(_CHECK_START)
    if np.remainder(differences, np.int32(_CHECK_PRIME)).any() or words[:, _WORDS].max() >= _CHECK_PRIME:
        return False
    octets, longs = np.frombuffer(content, dtype=np.uint8), np.frombuffer(content, dtype="<u8")
    codes, times = octets[_ACTION_AT::RECORD_BYTES], longs[1 :: RECORD_BYTES // 8]
    return bool((codes - np.uint8(1)).max() < len(ACTIONS) and times.max() < MAX_TIME_MS)  # code 0 becomes 255


def _valid(records: Records) -> NDArray[np.bool_]:
    valid = (records["action"] >= 1) & (records["action"] <= len(ACTIONS)) & (records["time_ms"] < MAX_TIME_MS)
    return np.asarray(valid & (records["check"] == checksums(records)), dtype=np.bool_)


def _search(value: bytes) -> Records:
    """Return the valid records of one value, at any byte."""
    if len(value) % RECORD_BYTES == 0:
        records = np.frombuffer(value, dtype=RECORD)
        valid = _valid(records)
        # One damaged record between whole neighbours cannot hide another alignment: no need to search.
        if bool((valid[1:] | valid[:-1]).all()):
            return records[valid]
    octets = np.frombuffer(value, dtype=np.uint8)
    taken: list[int] = []
    for start in range(0, len(octets) - RECORD_BYTES + 1, _SEARCH_PLACES):
        block = octets[start : start + _SEARCH_PLACES + RECORD_BYTES - 1]
        windows = np.lib.stride_tricks.sliding_window_view(block, RECORD_BYTES)
        for place in (np.flatnonzero(_valid(np.ascontiguousarray(windows).view(RECORD)[:, 0])) + start).tolist():
            if not taken or place >= taken[-1] + RECORD_BYTES:
                taken.append(place)
    return np.frombuffer(b"".join([value[place : place + RECORD_BYTES] for place in taken]), dtype=RECORD)
