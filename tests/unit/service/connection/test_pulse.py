"""When a request may have lain in the kernel, it is looked at more closely."""

from __future__ import annotations

from service.connection.answering import Pulse


def test_after_a_long_pass_all_requests_are_looked_at_for_a_while() -> None:
    pulse = Pulse()
    for place in range(1_000):
        pulse.is_behind(100.0 + place / 1000)
    assert not pulse.is_behind(101.0)
    assert pulse.is_behind(103.0)
    assert pulse.is_behind(103.001), "another connection, accepted one pass later"
    for place in range(1_000):
        pulse.is_behind(103.002 + place / 1000)
    assert not pulse.is_behind(104.002)
