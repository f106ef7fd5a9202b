"""The state cache keeps what was used last, and no more than it may."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.inference.state_cache import State, StateCache, StateKey


def state(number: float) -> State:
    return (np.array([number], dtype=np.float32),)


def key(number: int, bundle: str = "a") -> StateKey:
    return bundle, bytes([number])


def test_what_was_kept_is_found_in_the_order_asked() -> None:
    cache = StateCache(10)
    cache.keep([(key(1), state(1)), (key(2), state(2))])
    found = cache.find([key(2), key(3), key(1)])
    assert [None if one is None else one[0].item() for one in found] == [2, None, 1]


def test_the_same_row_of_another_bundle_is_another_state() -> None:
    cache = StateCache(10)
    cache.keep([(key(1, "a"), state(1))])
    assert cache.find([key(1, "b")]) == [None]


def test_the_least_recently_used_makes_room() -> None:
    cache = StateCache(2)
    cache.keep([(key(1), state(1)), (key(2), state(2))])
    cache.find([key(1)])
    cache.keep([(key(3), state(3))])
    assert [one is not None for one in cache.find([key(1), key(2), key(3)])] == [True, False, True]


def test_a_cache_of_nothing_keeps_nothing() -> None:
    cache = StateCache(0)
    cache.keep([(key(1), state(1))])
    assert len(cache) == 0
    assert cache.find([key(1)]) == [None]


@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 9), min_size=1, max_size=4)), max_size=30),
    st.integers(0, 5),
)
def test_it_never_holds_more_than_it_may_and_never_another_key_s_state(
    steps: list[tuple[bool, list[int]]], limit: int
) -> None:
    cache = StateCache(limit)
    for keeps, numbers in steps:
        if keeps:
            cache.keep([(key(number), state(number)) for number in numbers])
        found = cache.find([key(number) for number in numbers])
        assert all(one is None or one[0].item() == number for one, number in zip(found, numbers, strict=True))
        assert len(cache) <= limit


def wide(number: float, numbers: int) -> State:
    return (np.full(numbers, number, dtype=np.float32), np.array([number], dtype=np.float32))


def test_states_never_take_more_bytes_than_they_may() -> None:
    cache = StateCache(1_000, max_bytes=1_000)
    for number in range(100):
        cache.keep([(key(number), wide(number, 60))])
        held = [one for one in cache.find([key(other) for other in range(100)]) if one is not None]
        assert sum(part.nbytes for one in held for part in one) <= 1_000
    assert len(cache) == 4
    assert cache.find([key(99)]) != [None]


def test_a_state_that_is_kept_again_counts_once() -> None:
    cache = StateCache(10, max_bytes=1_000)
    for _ in range(50):
        cache.keep([(key(1), wide(1, 60)), (key(2), wide(2, 60))])
    assert len(cache) == 2


def test_a_state_larger_than_the_whole_cache_is_not_kept() -> None:
    cache = StateCache(10, max_bytes=100)
    cache.keep([(key(1), wide(1, 1_000))])
    assert len(cache) == 0
    cache.keep([(key(2), state(2))])
    assert cache.find([key(2)]) != [None]
