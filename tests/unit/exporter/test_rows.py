from __future__ import annotations

import numpy as np
import pytest

from contract.bundle.tensors import SequenceSpec
from exporter.rows import RowMaker, Rows

EVERYTHING = SequenceSpec(
    length=6, columns=("items", "times", "actions", "values", "plays"), row_inputs=("user", "request_time")
)


def rows_of(lengths: list[int], counts: list[int], seed: int = 0) -> Rows:
    return RowMaker(EVERYTHING, 20, 5, seed=seed).make(lengths, counts)


def test_rows_hold_as_many_behaviours_as_asked_padded_on_the_left() -> None:
    rows = rows_of([0, 2, 6, 16], [1, 1, 1, 1])
    real = rows.inputs["items"] > 0
    assert real.sum(axis=1).tolist() == [0, 2, 6, 6]
    assert (np.sort(real, axis=1) == real).all()
    for name in EVERYTHING.columns:
        assert (rows.inputs[name][~real] == 0).all()
        assert rows.inputs[name].dtype == np.int64


def test_candidates_are_ragged_and_say_their_row() -> None:
    rows = rows_of([1, 1, 1], [3, 0, 2])
    assert rows.rows.tolist() == [0, 0, 0, 2, 2]
    assert rows.candidates.shape == (5,)
    assert ((rows.candidates >= 1) & (rows.candidates <= 20)).all()


def test_known_and_unknown_users_take_turns() -> None:
    assert [user > 0 for user in rows_of([1] * 4, [1] * 4).inputs["user"]] == [True, False, True, False]


def test_times_never_go_back_and_stay_before_the_request() -> None:
    rows = rows_of([6] * 20, [1] * 20)
    assert (np.diff(rows.inputs["times"], axis=1) >= 0).all()
    assert rows.inputs["times"].max() < rows.inputs["request_time"].min()


def test_gaps_meet_the_edges_where_bins_of_logarithms_change() -> None:
    gaps = np.diff(rows_of([6] * 200, [1] * 200).inputs["times"], axis=1)
    assert set(1_000 * (2 ** np.arange(1, 20) - 1)) <= set(gaps.ravel().tolist())


def test_same_seed_gives_the_same_rows() -> None:
    first, second, other = rows_of([6], [9]), rows_of([6], [9]), rows_of([6], [9], seed=1)
    assert all((first.inputs[name] == second.inputs[name]).all() for name in EVERYTHING.names)
    assert (first.candidates == second.candidates).all()
    assert (first.candidates != other.candidates).any()


def test_popular_items_are_drawn_more_often() -> None:
    popularity = np.zeros(11, dtype=np.float32)
    popularity[4] = 1_000
    rows = RowMaker(SequenceSpec(length=5), 10, popularity=popularity).make([5] * 40, [5] * 40)
    assert (rows.inputs["items"] == 4).mean() > 0.9


def test_junk_goes_into_padded_slots_only_and_never_into_items() -> None:
    maker = RowMaker(EVERYTHING, 20, 5)
    rows = maker.make([0, 3, 6], [1, 1, 1])
    spoilt = maker.spoil_padding(rows)
    real = rows.inputs["items"] > 0
    assert (spoilt.inputs["items"] == rows.inputs["items"]).all()
    for name in ("times", "actions", "plays"):
        assert (spoilt.inputs[name][real] == rows.inputs[name][real]).all()
        assert (spoilt.inputs[name][~real] != 0).any()


@pytest.mark.parametrize("row", [0, 1, 2])
def test_one_row_of_a_batch_stands_alone(row: int) -> None:
    rows = rows_of([1, 2, 3], [2, 1, 4])
    single = rows.only(row)
    assert single.inputs["items"].tolist() == rows.inputs["items"][row : row + 1].tolist()
    assert single.candidates.tolist() == rows.candidates[rows.rows == row].tolist()
    assert set(single.rows.tolist()) == {0}
