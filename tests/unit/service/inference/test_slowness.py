"""A bundle is slow when its batches are, again and again; one pause of the machine does not count."""

from __future__ import annotations

import pytest

from service.inference.slowness import SlowGuard

FAST, SLOW = 0.01, 2.0


@pytest.mark.parametrize(
    ("batches", "opens_at"),
    [
        ([SLOW] * 3, 3),
        ([FAST] * 10 + [SLOW] * 2, None),
        ([FAST] * 10 + [SLOW] * 3, 13),
        ([FAST, SLOW] * 3, 6),
        ([FAST, FAST, SLOW] * 10, None),
        ([SLOW, FAST, SLOW, FAST, FAST, SLOW], 6),
    ],
)
def test_half_of_the_last_six_and_at_least_three_open_the_guard(batches: list[float], opens_at: int | None) -> None:
    guard = SlowGuard(0.25)
    opened = [number for number, seconds in enumerate(batches, start=1) if guard.note(seconds)]
    assert opened == ([] if opens_at is None else [opens_at])
    assert guard.is_open == (opens_at is not None)


def test_a_batch_that_takes_exactly_as_long_as_it_may_is_not_slow() -> None:
    guard = SlowGuard(0.25)
    for _ in range(10):
        assert not guard.note(0.25)


def test_a_closed_guard_holds_nothing_against_the_bundle() -> None:
    guard = SlowGuard(0.25)
    for _ in range(4):
        guard.note(SLOW)
    guard.close()
    assert not guard.is_open
    assert not guard.note(SLOW)
    assert not guard.note(SLOW)
    assert guard.note(SLOW)
