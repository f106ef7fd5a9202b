"""The rules of the verdict, one line each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.metrics import BY_NAME, Role
from analysis.statistics.comparisons import Row, Sequential
from analysis.statistics.estimates import Estimate
from analysis.verdict.gates import Gate, State
from analysis.verdict.sentence import EXAGGERATED, verdict

SEEN, NOT_SEEN = 0.001, 0.4


def row(name: str, role: Role, lift: float, p: float, arm: str = "treatment") -> Row:
    found = Estimate(
        500, 500, 1.0, 1.0 + lift, lift, lift - 0.01, lift + 0.01, 0.005, lift, lift - 0.01, lift + 0.01, 0.005,
        p, p / 2, p / 2, 0.014, 0.8,
    )  # fmt: skip
    return Row(BY_NAME[name], role, arm, found, p)


def up(name: str = "playtime") -> Row:
    return row(name, "primary", 0.02, SEEN)


def down(name: str = "active_days") -> Row:
    return row(name, "primary", -0.02, SEEN)


def still(name: str = "stay_duration") -> Row:
    return row(name, "primary", 0.004, NOT_SEEN)


HARM = row("dislike", "guardrail", 0.2, SEEN)
NO_HARM = row("dislike", "guardrail", 0.01, NOT_SEEN)
SECONDARY = row("like", "secondary", -0.3, SEEN)
NOTHING = Row(BY_NAME["playtime"], "primary", "treatment", None)


def gate(state: State, key: str = "sample_ratio", title: str = "Sample ratio") -> Gate:
    return Gate(key, title, state, f"The finding of {key}.")


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        (
            [up(), still(), NO_HARM],
            "better",
            "treatment is better than control: playtime +2.00% (95% interval +1.00% to",
        ),
        ([down(), still(), NO_HARM], "worse", "treatment is worse than control: active days −2.00%"),
        ([down(), HARM], "worse", "and dislike +20.0%"),
        ([up(), down()], "mixed", "is better than control in playtime +2.00%"),
        ([up(), HARM], "mixed", "but worse in dislike +20.0%"),
        ([still(), HARM], "harm", "but treatment is worse in dislike"),
        ([still(), still("playtime"), NO_HARM], "no_difference", "are 1.40% in stay duration and 1.40% in playtime."),
        ([still(), SECONDARY], "no_difference", "No difference between treatment and control was seen;"),
        ([NOTHING], "not_readable", "too few units or events"),
        ([SECONDARY], "not_readable", "too few units or events"),
        ([NOTHING, up("active_days")], "better", "active days"),
    ],
)
def test_rows_decide_when_all_gates_are_open(rows: list[Row], kind: str, words: str) -> None:
    found = verdict([gate("pass")], rows)
    assert found.kind == kind
    assert words in found.sentence
    assert found.readable == (kind != "not_readable")


@pytest.mark.parametrize(
    ("gates", "readable", "words"),
    [
        ([gate("block")], False, "“Sample ratio”: The finding of sample_ratio."),
        ([gate("unknown")], False, "“Sample ratio”"),
        ([gate("pass"), gate("unknown", "exposure_loss", "Exposure loss")], True, "is better"),
        ([gate("pass"), gate("warn", "outcomes", "Outcomes")], True, "is better"),
        ([gate("unknown"), gate("block", "before", "Before")], False, "“Before”"),
    ],
)
def test_a_gate_blanks_the_verdict(gates: list[Gate], readable: bool, words: str) -> None:
    found = verdict(gates, [up()])
    assert found.readable == readable
    assert words in found.sentence


def test_identical_arms_have_sentences_of_their_own() -> None:
    assert "as it should be between arms that are served alike" in verdict([], [still()], alike=True).sentence
    found = verdict([], [up()], alike=True)
    assert found.kind == "better"
    assert found.sentence.startswith("treatment and control are served alike but differ: playtime +2.00%")


def test_the_sentence_begins_with_simulated_and_early() -> None:
    found = verdict([], [up()], simulated=True, early=True)
    assert found.sentence.startswith("Simulated data, early reading: treatment is better")
    assert verdict([gate("block")], [], simulated=True).sentence.startswith("Simulated data: Not readable")


def test_an_early_reading_shows_the_interval_that_holds_at_every_reading() -> None:
    wide = replace(up(), sequential=Sequential(0.001, 0.041, 0.01, 0.03, 1000))
    assert "+0.10% to +4.10%" in verdict([], [wide], early=True).sentence
    assert verdict([], [wide], early=True).sentence.endswith(EXAGGERATED)
    narrow = replace(still(), sequential=Sequential(-0.02, 0.02, 1.0, 0.03, 1000))
    assert verdict([], [narrow], early=True).sentence.endswith("(MDE) are 3.00% in stay duration.")


def test_each_treatment_has_its_sentence_and_the_worst_decides_the_kind() -> None:
    found = verdict([], [replace(up(), arm="k30"), replace(down(), arm="k50")])
    assert found.kind == "worse"
    assert "k30 is better than control" in found.sentence
    assert "k50 is worse than control" in found.sentence
