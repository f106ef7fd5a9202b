"""The answered order is by score, ties by request, and the same with and without the short cut for small limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.bundle.vocabulary import Vocabulary
from service.ranking.candidates import best, candidates_of
from service.ranking.listed import Listed

VOCABULARY = Vocabulary(["a", "b", "c"])


def test_candidates_are_looked_up_once_each_at_their_first_place() -> None:
    found = candidates_of(["c", "x", "a", "c", "x", "b"], VOCABULARY)
    assert list(found.item_ids) == ["c", "x", "a", "b"]
    assert found.known.tolist() == [0, 2, 3]
    assert list(found.unknown) == [1]
    assert found.indices.tolist() == [3, 1, 2]
    assert found.total == 4


@pytest.mark.parametrize(("item_ids", "known", "unknown"), [(["x", "y"], [], [0, 1]), (["a"], [0], [])])
def test_all_or_none_may_be_known(item_ids: list[str], known: list[int], unknown: list[int]) -> None:
    found = candidates_of(item_ids, VOCABULARY)
    assert (found.known.tolist(), list(found.unknown)) == (known, unknown)


@given(st.lists(st.sampled_from("abcx"), max_size=8))
def test_ids_by_their_indices_are_the_ids_of_the_request(item_ids: list[str]) -> None:
    found = candidates_of(item_ids, VOCABULARY).item_ids
    distinct = list(dict.fromkeys(item_ids))
    assert isinstance(found, Listed) == (found == distinct == item_ids and "x" not in item_ids)
    assert (list(found), len(found), found[1:], found == distinct) == (distinct, len(distinct), distinct[1:], True)
    assert [found[place] for place in range(len(found))] == distinct


@given(st.lists(st.sampled_from([-1.5, -0.0, 0.0, 0.25, 1e30]), max_size=60), st.integers(0, 60))
def test_order_is_that_of_a_plain_stable_sort(numbers: list[float], limit: int) -> None:
    expected = sorted(range(len(numbers)), key=lambda place: -numbers[place])[:limit]
    assert best(np.array(numbers, dtype=np.float32), min(limit, len(numbers))).tolist() == expected
