from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.behaviours import grammar
from contract.behaviours.records import MAX_TIME_MS, identities, item_keys, records_from_columns, repeats, tenths

NOW_MS = 1_700_000_000_000
TEXTS = (
    st.text(max_size=140)
    | st.sampled_from(["i1", "x" * 128, "x" * 129, "é" * 64, "é" * 65, "a b", "\ud800"])
    | st.text(alphabet=" \t\xa0\x85\u3000aé\x7f", max_size=6)
)


@pytest.mark.parametrize("text", ["a", "a b", "👩‍👩‍👧‍👦", "é" * 64, "e\u0301", '"a,b"', "\ufeffa", "x" * 128])
def test_ids_may_hold_blanks_inside_and_any_script(text: str) -> None:
    assert grammar.is_id(text)
    assert grammar.id_problem(text) == ""


@pytest.mark.parametrize(
    "text", ["", " ", " a", "a ", "\xa0a", "a\u3000", "a\tb", "a\x85", "a\x00", "\x7f", "x" * 129, "é" * 65, "\ud800"]
)
def test_other_texts_are_not_ids_and_the_problem_shows_what_cannot_be_seen(text: str) -> None:
    assert not grammar.is_id(text)
    assert grammar.id_problem(text).isprintable()
    assert len(grammar.id_problem(text)) < 200


@given(st.lists(TEXTS, max_size=5))
def test_a_check_of_many_ids_is_a_check_of_each(texts: list[str]) -> None:
    assert grammar.are_ids(texts) == all(map(grammar.is_id, texts))


@pytest.mark.parametrize(
    ("time_ms", "problem"),
    [
        (0, "before_1971"),
        (NOW_MS // 1000, "before_1971"),
        (grammar.MIN_TIME_MS - 1, "before_1971"),
        (grammar.MIN_TIME_MS, None),
        (NOW_MS, None),
        (NOW_MS + 1, "future"),
        (MAX_TIME_MS, "future"),
    ],
)
def test_times_before_1971_and_after_the_latest_are_problems(time_ms: int, problem: str | None) -> None:
    assert grammar.time_problem(time_ms, NOW_MS) == problem


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1700000000000", 1.7e12), ("1700000000000.0", 1.7e12), ("1.7e12", 1.7e12), ("4.5", 4.5), (".5", 0.5),
        ("5.", 5.0), ("+1", 1.0), ("-0", 0.0), ("007", 7.0),
    ],
)  # fmt: skip
def test_numbers_are_decimal(text: str, number: float) -> None:
    assert grammar.numbers([text, "1"]).tolist() == [number, 1.0]


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-Infinity", "1_000", "0x10", "１", "²", "1,5", "1 2", " 1", "e5", "--1"]
)
def test_other_spellings_are_not_numbers(text: str) -> None:
    assert np.isnan(grammar.numbers([text, "1"])).tolist() == [True, False]
    assert not grammar.is_number(text)


@given(st.lists(st.floats(0, 25.5), min_size=1))
def test_a_stored_value_read_again_is_the_same_value(values: list[float]) -> None:
    stored = tenths(np.array(values))
    assert tenths(stored / 10).tolist() == stored.tolist()


def test_the_empty_action_is_a_click_and_an_unknown_one_has_no_code() -> None:
    assert (grammar.action_code(""), grammar.action_code("click"), grammar.action_code("rate")) == (2, 2, 11)
    assert (grammar.action_code("view"), grammar.action_code("Click")) == (0, 0)


def test_equal_records_of_one_user_are_repeats_and_any_other_field_makes_another_behaviour() -> None:
    fields = [
        ("a", 5, 2, 0, 0.0), ("a", 5, 2, 0, 0.0), ("b", 5, 2, 0, 0.0), ("a", 6, 2, 0, 0.0), ("a", 5, 3, 0, 0.0),
        ("a", 5, 2, 1, 0.0), ("a", 5, 2, 0, 0.5), ("a", 5, 2, 0, 0.04), ("a", 5, 2, 0, 0.0),
    ]  # fmt: skip
    items, times, actions, plays, values = zip(*fields, strict=True)
    records = records_from_columns(
        item_keys(items), np.array(times), np.array(actions, np.uint8), np.array(plays), np.array(values)
    )
    owners = np.array([1, 1, 1, 1, 1, 1, 1, 1, 2])
    assert np.flatnonzero(repeats(owners, records)).tolist() == [1, 7]
    assert repeats(owners[:0], records[:0]).tolist() == []
    assert identities(records)[0].tolist() == identities(records)[8].tolist()
