"""The verdict: one sentence from gates and rows, by fixed rules.

| Rule, the first that is true | Kind |
| --- | --- |
| a gate blocks, or the sample ratio is not known | not_readable |
| no primary metric could be compared | not_readable |
| primaries got better and nothing got worse | better |
| primaries got worse and none better | worse |
| primaries got better, and another primary or a guardrail worse | mixed |
| no primary moved, a guardrail got worse | harm |
| otherwise | no_difference |

"Better" and "worse" are beyond chance: the adjusted p-value is below 0.05 (in an early reading the always-valid one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from analysis.statistics.comparisons import Row
from analysis.text import in_words, percent
from analysis.verdict.gates import Gate

Kind = Literal["better", "worse", "mixed", "harm", "no_difference", "not_readable"]

BLANKS_IF_UNKNOWN: Final = frozenset({"sample_ratio"})
EXAGGERATED: Final = "Found with fewer units than planned, an effect is on average exaggerated."
_QUOTED: Final = "\N{LEFT DOUBLE QUOTATION MARK}{}\N{RIGHT DOUBLE QUOTATION MARK}"
_SEVERITY: Final[tuple[Kind, ...]] = ("not_readable", "harm", "worse", "mixed", "better", "no_difference")


@dataclass(frozen=True)
class Verdict:
    """The decision that the numbers allow."""

    kind: Kind
    sentence: str

    @property
    def readable(self) -> bool:
        """Return whether any lift may be shown."""
        return self.kind != "not_readable"


def verdict(
    gates: Sequence[Gate],
    rows: Sequence[Row],
    *,
    control: str = "control",
    alike: bool = False,
    early: bool = False,
    simulated: bool = False,
) -> Verdict:
    """Return the verdict.

    Args:
        gates: all of them.
        rows: all metrics and arms.
        control: the name of the arm that the others are compared with.
        alike: the arms are alike (an A/A experiment).
        early: this is before the planned end.
        simulated: no real users.
    """
    kind, text = _readable(gates, rows) or _of_arms(rows, control, alike)
    if early and any(row.moved for row in rows) and kind != "not_readable":
        text = f"{text} {EXAGGERATED}"
    words = [word for word, is_so in (("simulated data", simulated), ("early reading", early)) if is_so]
    return Verdict(kind, f"{', '.join(words).capitalize()}: {text}" if words else text)


def _readable(gates: Sequence[Gate], rows: Sequence[Row]) -> tuple[Kind, str] | None:
    for state in ("block", "unknown"):
        for gate in gates:
            if gate.state == state and (state == "block" or gate.key in BLANKS_IF_UNKNOWN):
                return "not_readable", f"Not readable because of the gate {_QUOTED.format(gate.title)}: {gate.finding}"
    if not any(row.role == "primary" and row.estimate is not None for row in rows):
        return "not_readable", "Not readable: there are too few units or events to compare any primary metric."
    return None


def _of_arms(rows: Sequence[Row], control: str, alike: bool) -> tuple[Kind, str]:
    arms = list(dict.fromkeys(row.arm for row in rows))
    found = [_of_arm([row for row in rows if row.arm == arm], arm, control, alike) for arm in arms]
    kinds = [kind for kind, _ in found]
    return min(kinds, key=_SEVERITY.index), " ".join(text for _, text in found)


def _of_arm(rows: Sequence[Row], arm: str, control: str, alike: bool) -> tuple[Kind, str]:
    primaries = [row for row in rows if row.role == "primary" and row.estimate is not None]
    better, worse = ([row for row in primaries if row.moved == sign] for sign in (1, -1))
    harmed = [row for row in rows if row.role == "guardrail" and row.moved == -1]
    kind = _kind(bool(better), bool(worse), bool(harmed))
    if kind == "no_difference":
        return kind, _no_difference(primaries, arm, control, alike)
    if alike:
        return kind, (
            f"{arm} and {control} are served alike but differ: {_lifts([*better, *worse, *harmed])}. Chance does this "
            "in about 1 of 20 experiments; otherwise assignment, logging or this analysis treats them differently."
        )
    return kind, {
        "better": f"{arm} is better than {control}: {_lifts(better)}.",
        "worse": f"{arm} is worse than {control}: {_lifts([*worse, *harmed])}.",
        "mixed": f"{arm} is better than {control} in {_lifts(better)}, but worse in {_lifts([*worse, *harmed])}.",
        "harm": f"No difference between {arm} and {control} was seen in the primary metrics, "
        f"but {arm} is worse in {_lifts(harmed)}.",
    }[kind]


def _kind(better: bool, worse: bool, harmed: bool) -> Kind:
    if better:
        return "mixed" if worse or harmed else "better"
    if worse:
        return "worse"
    return "harm" if harmed else "no_difference"


def _no_difference(primaries: Sequence[Row], arm: str, control: str, alike: bool) -> str:
    seen = [f"{percent(row.mde, signed=False)} in {row.metric.title.lower()}" for row in primaries if row.mde]
    expected = ", as it should be between arms that are served alike" if alike else ""
    return (
        f"No difference between {arm} and {control} was seen{expected}; the smallest lifts that this test finds "
        f"in 4 of 5 cases (MDE) are {in_words(seen)}."
    )


def _lifts(rows: Sequence[Row]) -> str:
    parts = []
    for row in rows:
        found = row.estimate
        assert found is not None
        low, high = (found.lift_low, found.lift_high)
        if row.sequential is not None:
            low, high = row.sequential.lift_low, row.sequential.lift_high
        parts.append(
            f"{row.metric.title.lower()} {percent(found.lift)} (95% interval {percent(low)} to {percent(high)})"
        )
    return in_words(parts)
