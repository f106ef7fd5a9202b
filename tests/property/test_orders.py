"""The order of a batch is the stable order of each of its rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.inference.orders import orders

SCORES = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45]),  # ties, both zeros, and the smallest numbers
)


@given(st.lists(st.lists(SCORES, max_size=12), max_size=6))
def test_each_row_is_ordered_as_by_itself(rows: list[list[float]]) -> None:
    flat = np.array([score for row in rows for score in row], dtype=np.float32)
    found = orders(flat, [len(row) for row in rows]).tolist() if rows else []
    read = [np.array(row, dtype=np.float32) for row in rows]
    expected = [sorted(range(len(row)), key=lambda place: -row[place]) for row in read]
    assert found == [place for order in expected for place in order]


def test_a_row_longer_than_the_places_that_are_kept_is_ordered_too() -> None:
    scores = np.random.default_rng(1).integers(0, 50, 5_000).astype(np.float32)
    assert orders(scores, [5_000]).tolist() == (-scores).argsort(kind="stable").tolist()
