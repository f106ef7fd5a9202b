"""Packed ids answer as a dictionary does, for every id that anyone may ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.bundle.packed_ids import MAX_WIDTH, PackedIds
from contract.bundle.vocabulary import Vocabulary

known = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=9)
asked = st.text(max_size=12)  # lone surrogates and NUL too


def packed(ids: list[str]) -> PackedIds:
    made = PackedIds.of(ids)
    assert made is not None
    return made


@given(st.lists(known, unique=True, max_size=40), st.lists(asked, max_size=20), st.randoms())
def test_looking_up_is_looking_up_in_a_dictionary(ids: list[str], others: list[str], random: st.randoms) -> None:  # type: ignore[valid-type]
    wanted = [*ids, *others, *(one[:-1] for one in ids), *(one + "0" for one in ids), *(one + "\0" for one in ids)]
    random.shuffle(wanted)  # type: ignore[attr-defined]
    expected = {identifier: index for index, identifier in enumerate(ids, start=1)}
    found = packed(ids).indices(wanted)
    assert found.dtype == np.int64
    assert found.tolist() == [expected.get(one, 0) for one in wanted]


def test_ids_that_share_a_slot_are_found_in_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    places = np.arange(3, 8)  # each slot is wanted by two ids, or by one and the empty first
    slots = np.stack([places, places + 1], axis=1)
    monkeypatch.setattr(
        "contract.bundle.packed_ids._slots",
        lambda words, _factors, _size: slots[[int(word[0] & np.uint64(0xFF)) % 5 for word in words]],
    )
    ids = ["a", "b", "c", "d"]  # 97 % 5 = 2 and so on
    made = packed(ids)
    assert made.indices(["d", "c", "b", "a", "f", "e"]).tolist() == [4, 3, 2, 1, 0, 0]


def test_ids_that_do_not_fit_their_slots_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "contract.bundle.packed_ids._slots", lambda words, _factors, _size: np.full((len(words), 2), 3, dtype=np.int64)
    )
    assert PackedIds.of(["one", "two", "three"]) is None
    monkeypatch.setattr("contract.bundle.vocabulary.PACK_FROM", 1)
    vocabulary = Vocabulary(["one", "two", "three"])
    assert vocabulary.indices(["three", "four"]).tolist() == [3, 0]


def test_a_large_catalogue_is_found_whole() -> None:
    ids = [f"{number * 7_919}" for number in range(150_000)]
    made = packed(ids)
    assert (made.indices(ids) == np.arange(1, 150_001)).all()
    assert not made.indices([f"{number * 7_919 + 1}" for number in range(1_000)]).any()


def test_an_id_that_only_begins_like_a_known_one_is_not_known() -> None:
    made = packed(["x" * 16])
    assert made.indices(["x" * 16, "x" * 15, "x" * 17, "x" * 24, "x" * 25, "x" * 128]).tolist() == [1, 0, 0, 0, 0, 0]


def test_ids_read_back_as_they_were_given() -> None:
    ids = ["b", "用户7", "a" * 30]
    made = packed(ids)
    assert (len(made), list(made), made[1], made[-1], made[:2]) == (3, ids, "用户7", "a" * 30, ("b", "用户7"))
    with pytest.raises(IndexError):
        made[3]


@pytest.mark.parametrize("odd", ["x" * (MAX_WIDTH + 1), "", "a\0", "\0"], ids=["too long", "empty", "NUL", "only NUL"])
def test_ids_that_cannot_be_packed_are_not(odd: str) -> None:
    assert PackedIds.of(["one", odd, "two"]) is None
