from __future__ import annotations

import random

import pytest

from service.flow.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(failures=3, lasting_seconds=0, cool_down_seconds=1, max_cool_down_seconds=4, clock=clock)
    for _ in range(3):
        assert not breaker.is_open
        breaker.failure()
    assert breaker.is_open
    return breaker


def test_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(failures=2, lasting_seconds=0)
    for _ in range(5):
        breaker.failure()
        breaker.success()
    assert not breaker.is_open


def test_no_probe_is_due_while_it_is_closed_or_cooling_down() -> None:
    clock = Clock()
    assert not Breaker(clock=clock).takes_probe()
    breaker = opened(clock)
    clock.now = 0.7
    assert not breaker.takes_probe()


def test_one_probe_at_a_time_and_its_success_closes() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = 1.3
    assert breaker.takes_probe()
    assert not breaker.takes_probe()
    assert breaker.is_open
    breaker.success()
    assert not breaker.is_open
    assert not breaker.takes_probe()


def test_probes_that_fail_come_further_apart_up_to_a_limit() -> None:
    clock = Clock()
    breaker = opened(clock)
    for wait in (1, 2, 4, 4):
        clock.now += 0.74 * wait
        assert not breaker.takes_probe()
        clock.now += 0.52 * wait
        assert breaker.takes_probe()
        breaker.failure()
    breaker.success()
    for _ in range(3):
        breaker.failure()
    clock.now += 1.3
    assert breaker.takes_probe()


def test_late_failures_of_calls_under_way_do_not_put_the_probe_off() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = 0.7
    breaker.failure()
    clock.now = 1.3
    assert breaker.takes_probe()


def test_many_failures_in_a_short_time_leave_it_closed() -> None:
    clock = Clock()
    breaker = Breaker(failures=3, lasting_seconds=0.25, clock=clock)
    for clock.now in (0.0, 0.1, 0.2, 0.24):
        breaker.failure()
        assert not breaker.is_open
    clock.now = 0.25
    breaker.failure()
    assert breaker.is_open


def test_few_failures_over_a_long_time_leave_it_closed() -> None:
    clock = Clock()
    breaker = Breaker(failures=3, lasting_seconds=0.25, clock=clock)
    for clock.now in (0.0, 100.0):
        breaker.failure()
        assert not breaker.is_open


@pytest.mark.parametrize("calls_per_second", [10, 100, 1000])
@pytest.mark.parametrize("fault", [0.1, 0.3, 0.5])
def test_a_partial_fault_is_never_multiplied(calls_per_second: int, fault: float) -> None:
    clock, rng = Clock(), random.Random(7)
    breaker = Breaker(clock=clock)
    failed = 0
    for call in range(20_000):
        clock.now = call / calls_per_second
        fails = rng.random() < fault
        if breaker.takes_probe():
            (breaker.failure if fails else breaker.success)()
        failed += fails or breaker.is_open
        if not breaker.is_open:
            (breaker.failure if fails else breaker.success)()
    assert failed / 20_000 < fault + 0.02
