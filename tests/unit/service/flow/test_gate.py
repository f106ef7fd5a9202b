"""How many rankings may be in progress."""

from __future__ import annotations

from service.flow.gate import Gate, Part, Place

BUDGET = 0.1


def gate(most: int = 64) -> Gate:
    return Gate(most, budget_seconds=BUDGET)


def fill(through: Gate | Part, budget: float | None = None) -> int:
    """Have as many enter as may, and return how many are inside."""
    while through.enter(budget):
        pass
    return through.inside


def rush(through: Gate, pace: float, times: int = 100, budget: float | None = None) -> None:
    """Have the gate full again and again, where each one inside adds so much to what the others take."""
    for _ in range(times):
        inside = fill(through, budget)
        for _ in range(inside):
            through.leave(inside * pace, inside)


def test_no_more_than_the_most_are_inside() -> None:
    one = gate(most=2)
    assert [one.enter() for _ in range(3)] == [True, True, False]
    one.leave(0.01)
    assert one.enter()


def test_as_many_are_inside_as_are_answered_within_six_tenths_of_their_deadline() -> None:
    one = gate()
    rush(one, pace=0.002)
    assert fill(one) == 30


def test_slow_rankings_let_fewer_in_but_always_some() -> None:
    one = gate()
    rush(one, pace=1.0)
    assert fill(one) == 8


def test_after_a_rush_the_gate_opens_again() -> None:
    one = gate()
    rush(one, pace=1.0)
    rush(one, pace=0.0001, times=50)
    assert fill(one) == 64


def test_one_pause_of_the_machine_closes_the_gate_to_no_one_who_was_let_in_before_it() -> None:
    one = gate()
    rush(one, pace=0.0003)
    for _ in range(32):
        one.enter()
    for _ in range(32):
        one.leave(0.3, 32)
    assert fill(one) >= 32


def test_a_service_that_has_become_slow_is_noticed_within_a_few_rankings_of_each_caller() -> None:
    one = gate()
    rush(one, pace=0.0003)
    rush(one, pace=0.01, times=5)
    assert fill(one) == 8


def test_a_request_with_little_time_is_refused_and_costs_others_no_place() -> None:
    one = gate()
    rush(one, pace=0.002, budget=0.02)
    assert fill(one, budget=0.02) == 8
    assert fill(one) == 30
    assert one.is_full(0.02)
    assert not one.is_full(1.0)


def test_a_few_rankings_prove_nothing() -> None:
    one = gate()
    for _ in range(1_000):
        assert one.enter()
        one.leave(10.0, 1)
    assert fill(one) == 64


def test_a_gate_for_few_never_closes() -> None:
    one = gate(most=1)
    rush(one, pace=1.0)
    assert fill(one) == 1


def test_a_gate_without_a_deadline_lets_the_most_in() -> None:
    one = Gate(64)
    rush(one, pace=100.0)
    assert fill(one) == 64


def test_a_place_is_left_once_and_tells_among_how_many_it_was() -> None:
    one = gate()
    places = []
    for _ in range(8):
        assert one.enter()
        places.append(Place(one))
    for place in places:
        place.leave()
        place.leave()
    assert one.inside == 0
    assert 0 < one._pace < 1


def test_a_caller_cannot_fill_the_gate_and_others_find_room() -> None:
    one = gate()
    greedy, good = Part(one), Part(one)
    assert fill(greedy) == 48
    assert greedy.is_full()
    assert [good.enter() for _ in range(7)] == [True] * 7
    assert one.inside == 55
    greedy.leave(0.01)
    assert greedy.is_full()  # the others have its room now


def test_callers_with_few_inside_share_the_last_quarter_up_to_the_most() -> None:
    one = gate()
    fill(Part(one))
    others = [Part(one) for _ in range(20)]
    assert sum(part.enter() for part in others) == 16
    assert one.inside == 64


def test_the_room_that_is_left_free_follows_the_pace() -> None:
    one = gate()
    rush(one, pace=0.002)  # room for 30
    greedy, good = Part(one), Part(one)
    assert fill(greedy) in {22, 23}
    assert good.enter()


def test_a_caller_that_is_the_only_one_has_all_of_the_gate() -> None:
    part = Part(gate())
    part.is_shared = False
    assert fill(part) == 64


def test_every_place_in_a_part_is_given_back() -> None:
    one = gate()
    part = Part(one)
    for _ in range(3):
        places = []
        while part.enter():
            places.append(Place(part))
        assert one.inside == 48
        for place in places:
            place.leave()
            place.leave()
        assert one.inside == 0
