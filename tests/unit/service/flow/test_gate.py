"""How many rankings may be in progress."""

from __future__ import annotations

from service.flow.gate import Gate

QUICK, SLOW = 0.01, 1.0


def gate(most: int = 64) -> Gate:
    return Gate(most, target_seconds=0.1)


def rush(through: Gate, seconds: float, times: int) -> None:
    """Have the gate full, and those inside take this long."""
    for _ in range(times):
        inside = 0
        while through.enter():
            inside += 1
        for _ in range(inside):
            through.leave(seconds)


def test_no_more_than_the_most_are_inside() -> None:
    one = gate(most=2)
    assert [one.enter() for _ in range(3)] == [True, True, False]
    one.leave(QUICK)
    assert one.enter()


def test_slow_rankings_let_fewer_in_but_always_some() -> None:
    one = gate()
    rush(one, SLOW, times=1)
    assert one.limit == 32
    rush(one, SLOW, times=20)
    assert one.limit == 8


def test_after_a_rush_the_gate_opens_again() -> None:
    one = gate()
    rush(one, SLOW, times=20)
    rush(one, QUICK, times=200)
    assert one.limit == 64


def test_quick_rankings_that_do_not_press_prove_nothing() -> None:
    one = gate()
    rush(one, SLOW, times=20)
    for _ in range(1_000):
        assert one.enter()
        one.leave(QUICK)
    assert one.limit == 8


def test_a_gate_for_few_never_closes() -> None:
    one = gate(most=1)
    rush(one, SLOW, times=20)
    assert one.limit == 1
