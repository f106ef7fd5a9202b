"""Both searches for item keys find what a dictionary does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contract.bundle.key_search import HashedKeys, SortedKeys

KEYS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1])


@given(st.lists(KEYS, unique=True, max_size=60), st.lists(KEYS, max_size=20))
def test_known_keys_are_found_and_others_are_not(known: list[int], others: list[int]) -> None:
    keys = np.array(known, dtype=np.uint64)
    asked = [*known[::-1], *others]
    expected = [{key: index for index, key in enumerate(known, start=1)}.get(key, 0) for key in asked]
    for search in (SortedKeys(keys, np.argsort(keys)), HashedKeys.of(keys)):
        if search is not None:  # the keys may not fit
            found = search.indices(np.array(asked, dtype=np.uint64))
            assert found.dtype == np.int64
            assert found.tolist() == expected


def test_keys_of_a_large_catalogue_fit_and_are_found() -> None:
    keys = np.unique(np.random.default_rng(1).integers(0, 2**64, 150_000, dtype=np.uint64))
    search = HashedKeys.of(keys)
    assert search is not None
    assert (search.indices(keys) == np.arange(1, len(keys) + 1)).all()
    assert not search.indices(keys + np.uint64(1)).any()


def test_keys_that_want_the_same_slots_do_not_fit() -> None:
    assert HashedKeys.of(np.arange(20, dtype=np.uint64) << np.uint64(60)) is None
