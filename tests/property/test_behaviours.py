from __future__ import annotations

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.behaviours.actions import ACTIONS
from contract.behaviours.records import (
    MAX_TIME_MS,
    RECORD_BYTES,
    Records,
    checksums,
    item_keys,
    pack,
    records_from_columns,
    unpack,
)

fields = st.tuples(
    st.integers(0, 2**64 - 1),
    st.integers(0, MAX_TIME_MS - 1),
    st.integers(1, len(ACTIONS)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
)


@st.composite
def histories(draw: st.DrawFn, least: int = 0, most: int = 12) -> Records:
    rows = draw(st.lists(fields, min_size=least, max_size=most))
    items, times, actions, plays, tenths = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return records_from_columns(
        np.array(items, dtype=np.uint64),
        np.array(times, dtype=np.int64),
        np.array(actions, dtype=np.uint8),
        np.array(plays, dtype=np.int64),
        np.array(tenths, dtype=np.float64) / 10,
    )


def slow_unpack(value: bytes) -> list[bytes]:
    """Return the valid records of a value as the specification words it, byte by byte and without numpy."""
    found, at = [], 0
    while at + RECORD_BYTES <= len(value):
        record = value[at : at + RECORD_BYTES]
        words = struct.unpack("<12H", record)
        check = (0xB5AD + sum((2 * place + 1) * word for place, word in enumerate(words[:11]))) % 65521
        time_ms = int.from_bytes(record[8:16], "little")
        if words[11] == check and 1 <= record[20] <= len(ACTIONS) and time_ms < MAX_TIME_MS:
            found.append(record)
            at += RECORD_BYTES
        else:
            at += 1
    return found


def check_against_slow(values: list[bytes | None]) -> None:
    unpacked = unpack(values)
    expected = [slow_unpack(value or b"") for value in values]
    assert pack(unpacked.records) == b"".join(record for records in expected for record in records)
    assert unpacked.counts == [len(records) for records in expected]
    lengths = [len(value or b"") for value in values]
    assert unpacked.corrupt == [
        -(-length // RECORD_BYTES) - len(records) for length, records in zip(lengths, expected, strict=True)
    ]


@given(st.lists(histories(), max_size=5))
def test_what_is_packed_is_unpacked_as_it_was(batch: list[Records]) -> None:
    unpacked = unpack([pack(records) for records in batch])
    assert pack(unpacked.records) == b"".join(pack(records) for records in batch)
    assert unpacked.counts == [len(records) for records in batch]
    assert not any(unpacked.corrupt)


@given(st.lists(st.none() | st.binary(max_size=200), max_size=5))
def test_any_bytes_unpack_without_raising_as_a_slow_reference_does(values: list[bytes | None]) -> None:
    check_against_slow(values)


@given(histories(least=1, most=4), st.data())
def test_single_bit_that_flips_is_always_noticed(records: Records, data: st.DataObject) -> None:
    value = bytearray(pack(records))
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    value[bit // 8] ^= 1 << bit % 8
    unpacked = unpack([bytes(value)])
    lost = bit // 8 // RECORD_BYTES
    assert pack(unpacked.records) == pack(np.delete(records, lost))
    assert unpacked.corrupt == [1]


def test_every_single_bit_of_a_record_is_covered() -> None:
    record = records_from_columns(item_keys(["x"]), np.array([10**12]), np.array([2]), np.array([7]), np.array([4.5]))
    whole = pack(record)
    for bit in range(8 * RECORD_BYTES):
        value = bytearray(whole)
        value[bit // 8] ^= 1 << bit % 8
        assert unpack([bytes(value)]).corrupt == [1]


@given(histories(least=2), st.data())
def test_torn_write_costs_one_record_and_not_what_came_after_it(records: Records, data: st.DataObject) -> None:
    torn = data.draw(st.integers(0, len(records) - 1))
    kept = data.draw(st.integers(1, RECORD_BYTES - 1))
    whole = pack(records)
    start = torn * RECORD_BYTES
    value = whole[:start] + whole[start : start + kept] + whole[start + RECORD_BYTES :]
    unpacked = unpack([value])
    assert pack(unpacked.records) == pack(np.delete(records, torn))
    assert unpacked.corrupt == [1]


@settings(max_examples=2 * settings.default.max_examples)
@given(st.lists(histories(most=6), min_size=1, max_size=4), st.data())
def test_any_damage_to_a_batch_is_read_as_the_slow_reference_reads_it(
    batch: list[Records], data: st.DataObject
) -> None:
    values: list[bytes | None] = []
    for records in batch:
        value = bytearray(pack(records))
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, len(value)))
            match data.draw(st.sampled_from(["flip", "cut", "put in", "shorten"])):
                case "flip" if place < len(value):
                    value[place] ^= 1 << data.draw(st.integers(0, 7))
                case "cut":
                    del value[place : place + data.draw(st.integers(1, 30))]
                case "put in":
                    value[place:place] = data.draw(st.binary(min_size=1, max_size=30))
                case _:
                    del value[:place]
        values.append(bytes(value))
    check_against_slow(values)


@given(histories(least=1, most=3), st.integers(0, 3))
def test_long_damaged_value_is_searched_whole(records: Records, offset: int) -> None:
    value = b"\xff" * (16_384 - 30 + offset) + pack(records) + b"\xff" * 20_000 + pack(records) + b"\x00"
    unpacked = unpack([value])
    assert pack(unpacked.records) == 2 * pack(records)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_keys_of_many_items_are_those_of_each(item_ids: list[str]) -> None:
    assert item_keys(item_ids).tolist() == [int(item_keys([item_id])[0]) for item_id in item_ids]


@given(histories())
def test_checksums_depend_on_the_record_alone_and_not_on_how_it_lies_in_memory(records: Records) -> None:
    spread = np.zeros(2 * len(records), dtype=records.dtype)
    spread[::2] = records
    assert checksums(spread[::2]).tolist() == records["check"].tolist()
