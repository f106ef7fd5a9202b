from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from contract.behaviours.actions import ACTION_CODES, ACTIONS
from contract.bundle.tensors import POSITIVE_ACTIONS, SequenceSpec, windows


def array(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def test_newest_behaviour_stands_last_and_padding_on_the_left() -> None:
    cut = windows({"items": array(1, 2, 3, 4, 5, 6)}, array(0, 2), array(2, 6), 3)
    assert cut["items"].tolist() == [[0, 1, 2], [4, 5, 6]]


@pytest.mark.parametrize("values", [[], [7, 8]])
def test_empty_history_is_all_padding(values: list[int]) -> None:
    cut = windows({"items": array(*values), "times": array(*values)}, array(0), array(0), 4)
    assert {name: column.tolist() for name, column in cut.items()} == {"items": [[0] * 4], "times": [[0] * 4]}


def test_no_rows_give_no_rows() -> None:
    assert windows({"items": array(1)}, array(), array(), 4)["items"].shape == (0, 4)


@given(st.lists(st.lists(st.integers(1, 2**62), max_size=9), max_size=6), st.integers(1, 8))
def test_every_row_is_that_of_its_own_history_whatever_its_neighbours(histories: list[list[int]], length: int) -> None:
    stops = np.cumsum([len(history) for history in histories], dtype=np.int64)
    starts = stops - array(*(len(history) for history in histories))
    flat = array(*(value for history in histories for value in history))
    expected = [([0] * length + history)[-length:] for history in histories]
    for repeats in (1, 100):  # few rows, and many
        cut = windows({"items": flat, "negated": -flat}, np.tile(starts, repeats), np.tile(stops, repeats), length)
        assert cut["items"].dtype == np.int64
        assert cut["items"].tolist() == expected * repeats
        assert (cut["negated"] == -cut["items"]).all()


def test_names_are_columns_then_row_inputs() -> None:
    spec = SequenceSpec(length=5, columns=("items", "times"), row_inputs=("user",))
    assert spec.names == ("items", "times", "user")


def test_actions_of_a_sequence_are_known_to_the_store() -> None:
    assert set(POSITIVE_ACTIONS) == set(ACTIONS) - {"impression", "dislike"}
    assert SequenceSpec(length=1, actions=("click", "rate")).action_codes.tolist() == [
        ACTION_CODES["click"],
        ACTION_CODES["rate"],
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": 0},
        {"length": 4097},
        {"columns": ["colour"]},
        {"row_inputs": ["items"]},
        {"actions": ["view"]},
        {"x": 1},
    ],
)
def test_spec_of_unknown_parts_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SequenceSpec.model_validate({"length": 5, **wrong})
