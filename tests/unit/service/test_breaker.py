from __future__ import annotations

from service.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(failures=3, cool_down_seconds=1, max_cool_down_seconds=4, clock=clock)
    for _ in range(3):
        assert not breaker.is_open
        breaker.failure()
    assert breaker.is_open
    return breaker


def test_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(failures=2)
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
