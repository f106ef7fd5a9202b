"""Values that were read before are found by their bytes, within a limit of memory."""

from __future__ import annotations

import pytest

from contract.behaviours.records import pack, unpack
from service.store.known_values import KnownValues, StoredBehaviours
from tests.support.builders import behaviours

ENTRY = 1_024 + 2 * 24  # what a value of one record takes


def value_of(number: int) -> bytes:
    return pack(behaviours([f"i{number}"]))


def content_of(value: bytes) -> StoredBehaviours:
    return StoredBehaviours(unpack([value]).records, corrupt=1, truncated=True)


def known_of(count: int, numbers: range) -> KnownValues:
    known = KnownValues(count * ENTRY)
    for number in numbers:
        known.keep(value_of(number), content_of(value_of(number)))
    return known


def found(known: KnownValues, numbers: range) -> list[bool]:
    return [known.find(value_of(number)) is not None for number in numbers]


def test_the_same_bytes_have_the_same_content_and_its_notes() -> None:
    known = known_of(1, range(1))
    first, again = known.find(value_of(0)), known.find(bytes(bytearray(value_of(0))))
    assert first is not None
    assert first is again
    assert (pack(first.records), first.corrupt, first.status, first.truncated) == (value_of(0), 1, "ok", True)
    assert first.notes == {}


@pytest.mark.parametrize("reply", [b"", value_of(0)[:-1], value_of(1), None, ValueError(), 7])
def test_other_replies_are_not_known(reply: object) -> None:
    assert known_of(1, range(1)).find(reply) is None


def test_the_values_used_longest_ago_are_forgotten() -> None:
    known = known_of(3, range(3))
    known.find(value_of(0))
    known.keep(value_of(3), content_of(value_of(3)))
    assert found(known, range(4)) == [True, False, True, True]


def test_a_value_that_was_read_twice_in_a_batch_is_kept_once() -> None:
    known = known_of(2, range(1))
    first = known.find(value_of(0))
    assert known.keep(value_of(0), content_of(value_of(0))) is first
    known.keep(value_of(1), content_of(value_of(1)))
    assert found(known, range(2)) == [True, True]


def test_a_kept_value_holds_no_other_and_cannot_be_changed() -> None:
    together = unpack([value_of(0), value_of(1)])
    kept = KnownValues(ENTRY).keep(value_of(0), StoredBehaviours(together.records[:1]))
    assert kept.records.base is None
    with pytest.raises(ValueError, match="read-only"):
        kept.records["item"] = 0


def test_without_memory_nothing_is_kept_and_there_is_no_room_for_notes() -> None:
    known = KnownValues(0)
    assert known.keep(value_of(0), content_of(value_of(0))).notes is None
    assert known.find(value_of(0)) is None
