"""A refused bundle costs nothing until its files change, or until the machine may have changed."""

from __future__ import annotations

from service.bundles.refusals import Refusals

MODEL = ("mgnm", "1")
FILES, OTHERS = (("score.onnx", 1, 1, 1, 1),), (("score.onnx", 1, 2, 2, 1),)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_refusal_for_good_lasts_until_the_files_change() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    assert refusals.of(MODEL, FILES) is None
    assert refusals.note(MODEL, FILES, "digest differs", for_good=True)
    clock.now = 1e9
    assert refusals.of(MODEL, FILES) == "digest differs"
    assert refusals.of(MODEL, OTHERS) is None
    assert refusals.of(("mgnm", "2"), FILES) is None


def test_a_refusal_that_may_be_the_machine_s_fault_is_tried_again_after_growing_pauses() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    pauses = []
    for _ in range(7):
        refusals.note(MODEL, FILES, "too slow", for_good=False)
        began = clock.now
        while refusals.of(MODEL, FILES) is not None:
            clock.now += 1.0
        pauses.append(clock.now - began)
    assert pauses == [30, 60, 120, 300, 900, 900, 900]
    refusals.note(MODEL, OTHERS, "too slow", for_good=False)
    clock.now += 30
    assert refusals.of(MODEL, OTHERS) is None


def test_only_a_new_problem_is_news() -> None:
    refusals = Refusals(Clock())
    assert refusals.note(MODEL, FILES, "too slow", for_good=False)
    assert not refusals.note(MODEL, FILES, "too slow", for_good=False)
    assert refusals.note(MODEL, FILES, "too large", for_good=False)
    assert refusals.note(MODEL, OTHERS, "too large", for_good=False)


def test_what_is_forgotten_is_worth_a_try() -> None:
    refusals = Refusals(Clock())
    for version in ("1", "2"):
        refusals.note(("mgnm", version), FILES, "no", for_good=True)
    refusals.forget(("mgnm", "1"))
    assert [refusals.of(("mgnm", version), FILES) for version in ("1", "2")] == [None, "no"]
    refusals.forget()
    assert refusals.of(("mgnm", "2"), FILES) is None


def test_what_is_remembered_is_bounded() -> None:
    refusals = Refusals(Clock())
    for number in range(2_000):
        refusals.note(("mgnm", str(number)), FILES, "no", for_good=True)
    assert refusals.of(("mgnm", "0"), FILES) is None
    assert refusals.of(("mgnm", "1999"), FILES) == "no"
    assert len(refusals._refused) == 1_000
