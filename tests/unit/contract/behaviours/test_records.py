from __future__ import annotations

import numpy as np
import pytest

from contract.behaviours.actions import ACTION_CODES, ACTIONS, DEFAULT_ACTION
from contract.behaviours.records import (
    MAX_TIME_MS,
    RECORD,
    RECORD_BYTES,
    Records,
    checksums,
    item_keys,
    pack,
    records_from_columns,
    unpack,
)


def test_record_is_24_bytes_little_endian_without_gaps() -> None:
    assert RECORD_BYTES == 24
    assert [(name, RECORD.fields[name][1]) for name in RECORD.names or ()] == [
        ("item", 0), ("time_ms", 8), ("play_ms", 16), ("action", 20), ("value", 21), ("check", 22),
    ]  # fmt: skip
    assert all(RECORD[name].str[0] in "<|" for name in RECORD.names or ())


def test_actions_are_numbered_from_one_so_that_zero_is_none() -> None:
    assert list(ACTION_CODES.values()) == list(range(1, len(ACTIONS) + 1))
    assert DEFAULT_ACTION in ACTIONS


def test_value_is_kept_to_a_tenth() -> None:
    values = np.array([0.0, 0.1, 0.14, 0.16, 4.5, 25.5])
    n = len(values)
    records = records_from_columns(
        item_keys(["a"] * n), np.ones(n, np.int64), np.ones(n, np.uint8), np.zeros(n, np.int64), values
    )
    assert records["value"].tolist() == [0, 1, 1, 2, 45, 255]


def test_item_key_is_of_the_ids_bytes_and_nothing_is_normalised() -> None:
    assert len(set(item_keys(["é", "e\u0301", "É", " é", "1", "01"]).tolist())) == 6


def test_no_value_gives_no_record() -> None:
    for values in ([], [None], [b""], [None, b"", None]):
        unpacked = unpack(values)
        assert len(unpacked.records) == 0
        assert unpacked.counts == unpacked.corrupt == [0] * len(values)


def test_neighbours_of_a_damaged_value_are_read_as_if_it_were_not_there() -> None:
    records = records_from_columns(
        item_keys(["a", "b"]), np.array([1, 2]), np.array([1, 2], np.uint8), np.array([0, 0]), np.array([0.0, 0.0])
    )
    good = pack(records)
    unpacked = unpack([good, good[:-1], None, b"junk", good])
    assert unpacked.counts == [2, 1, 0, 0, 2]
    assert unpacked.corrupt == [0, 1, 0, 1, 0]
    assert pack(unpacked.records) == good + good[:24] + good


@pytest.mark.parametrize("count", [1, 2, 3])
def test_zero_bytes_are_no_records(count: int) -> None:
    assert unpack([bytes(RECORD_BYTES * count)]).corrupt == [count]


def clicks(count: int) -> Records:
    keys = item_keys(f"i{number}" for number in range(count))
    none = np.zeros(count, np.int64)
    return records_from_columns(keys, np.full(count, 10**12), np.full(count, 2, np.uint8), none, none.astype(float))


@pytest.mark.parametrize(
    ("field", "value", "lost"),
    [
        ("action", 0, 1),
        ("action", 1, 0),
        ("action", len(ACTIONS), 0),
        ("action", len(ACTIONS) + 1, 1),
        ("time_ms", MAX_TIME_MS - 1, 0),
        ("time_ms", MAX_TIME_MS, 1),
        ("time_ms", 2**64 - 1, 1),
    ],
)
def test_a_right_checksum_does_not_make_a_wrong_action_or_time_valid(field: str, value: int, lost: int) -> None:
    records = clicks(2)
    records[field][1] = value
    records["check"] = checksums(records)
    unpacked = unpack([pack(records)])
    assert (unpacked.counts, unpacked.corrupt) == ([2 - lost], [lost])


def test_a_checksum_that_equals_the_right_one_only_after_division_is_wrong() -> None:
    records = clicks(40_000)
    small = records[records["check"] < 2**16 - 65_521]
    assert len(small) > 2
    small["check"] += 65_521
    assert unpack([pack(small)]).counts == [0]
