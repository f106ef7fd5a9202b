"""Health gates: reasons not to believe any lift. They come before the lifts, and each can blank the verdict.

Pure functions from counts to findings; `analysis/verdict/health.py` reads the counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from scipy.stats import chi2_contingency, chisquare

from analysis.statistics.estimates import MIN_UNITS, Sample, estimate
from analysis.text import count, in_words, p_text, percent

State = Literal["pass", "warn", "block", "unknown"]

ALPHA: Final = 0.001
"""A gate that fires stops a decision, so a false alarm must be rare; a true fault is far below."""
TWO_ARMS_SHARE: Final = 0.0001
LOST_SHARE: Final = 0.01
DEGRADED_SHARE: Final = 0.10
_EXPECTED_MIN: Final = 5  # of a cell, for the chi-square approximation

_P: Final = "p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"

Counts = Mapping[str, int]  # by arm


@dataclass(frozen=True)
class Gate:
    """The finding of one gate. Any `block`, and an unknown sample ratio, blank the verdict."""

    key: str
    title: str
    state: State
    finding: str  # one sentence


def sample_ratio_p(units: Counts, shares: Counts) -> float | None:
    """Return Pearson's p-value of the units per arm against the planned shares; None with fewer than two arms.

    Arms without a share are dropped first: they would add a degree of freedom and hide a mismatch.
    """
    arms = [arm for arm, share in shares.items() if share > 0]
    observed = [units.get(arm, 0) for arm in arms]
    total, whole = sum(observed), sum(shares[arm] for arm in arms)
    if len(arms) < 2 or total == 0:
        return None
    return float(chisquare(observed, [total * shares[arm] / whole for arm in arms]).pvalue)


def sample_ratio(units: Counts, analysed: Counts, shares: Counts | None) -> Gate:
    """Judge the split of exposed units, and of those whose window is complete."""
    key, title = "sample_ratio", "Sample ratio"
    if shares is None:
        return Gate(key, title, "unknown", "The planned shares are not known: give --experiments FILE or --shares.")
    found = {name: sample_ratio_p(one, shares) for name, one in (("exposed", units), ("analysed", analysed))}
    tested = {name: p for name, p in found.items() if p is not None}
    if "exposed" not in tested:
        return Gate(key, title, "unknown", "No units were exposed.")
    worst = min(tested, key=lambda name: tested[name])
    sizes = units if worst == "exposed" else analysed
    text = f"{_split(sizes, shares)} units {worst}, planned {_ratio(shares)}; {_P}{p_text(tested[worst])}."
    return Gate(key, title, "block" if tested[worst] < ALPHA else "pass", text)


def sample_ratio_within(name: str, groups: Mapping[str, Counts] | None, shares: Counts | None) -> Gate:
    """Judge the split inside each group (a day, a platform), with Bonferroni's correction for their number."""
    key, title = f"sample_ratio_by_{name}", f"Sample ratio by {name}"
    if not groups or shares is None:
        return Gate(key, title, "unknown", f"The data do not show the {name} of the units.")
    found = {group: sample_ratio_p(units, shares) for group, units in groups.items() if _is_large(units, shares)}
    tested = {group: p for group, p in found.items() if p is not None}
    if not tested:
        return Gate(key, title, "unknown", f"Too few units in each {name}.")
    worst = min(tested, key=lambda group: tested[group])
    text = (
        f"{count(len(tested))} tested; the most uneven is {worst} with {_split(groups[worst], shares)}, "
        f"{_P}{p_text(tested[worst])}."
    )
    return Gate(key, title, "block" if tested[worst] < ALPHA / len(tested) else "pass", text)


def before(samples: Mapping[str, Mapping[str, Sample]], control: str) -> Gate:
    """Judge the arms before the experiment: the same estimators on the same metrics, when nothing differed yet.

    Args:
        samples: by metric and arm, of units with history.
        control: the arm that the others are compared with.
    """
    key, title = "before", "A/A before exposure"
    tested: dict[str, float] = {}
    for metric, arms in samples.items():
        for arm, sample in arms.items():
            found = estimate(arms[control], sample) if arm != control and control in arms else None
            if found is not None:
                tested[f"{metric} ({arm})"] = found.p
    if not tested:
        return Gate(key, title, "unknown", "No history before the first exposure.")
    worst = min(tested, key=lambda name: tested[name])
    text = f"{count(len(tested))} comparisons; the smallest p is {p_text(tested[worst])}, of {worst}."
    return Gate(key, title, "block" if tested[worst] < ALPHA / len(tested) else "pass", text)


def one_arm_each(in_two: int, units: int) -> Gate:
    """Judge units that were seen in two arms; they are left out of everything."""
    key, title = "one_arm_each", "One arm per unit"
    if not in_two:
        return Gate(key, title, "pass", "No unit was seen in two arms.")
    share = in_two / (units + in_two)
    text = f"{count(in_two)} units ({percent(share, signed=False)}) were seen in two arms and left out."
    return Gate(key, title, "block" if share > TWO_ARMS_SHARE else "warn", text)


def assignment(
    salts: Sequence[str], planned_salt: str | None, misplaced: int | None, unplanned: Sequence[str] = ()
) -> Gate:
    """Judge whether all exposures belong to one experiment, and to the one of the file.

    Args:
        salts: of the experiment, as the exposures name them.
        unplanned: arms that have exposures but no share in the plan.
        planned_salt: of the file; None without a file.
        misplaced: exposures whose arm bucket is not in their arm's ranges of the file; None without a file.
    """
    key, title = "assignment", "Assignment"
    if len(salts) > 1:
        return Gate(key, title, "block", f"Exposures of {len(salts)} salts have this experiment's key.")
    if unplanned:
        return Gate(key, title, "block", f"Exposures name arms that the plan does not have: {in_words(unplanned)}.")
    if planned_salt is None or misplaced is None:
        return Gate(key, title, "unknown", "Not recomputed, because no experiment file was given.")
    if salts and salts[0] != planned_salt:
        return Gate(key, title, "block", f"The exposures' salt is {salts[0]}, the file's is {planned_salt}.")
    if misplaced:
        return Gate(key, title, "block", f"{count(misplaced)} exposures have an arm that their bucket does not give.")
    return Gate(key, title, "pass", "Every exposure has the arm that its bucket gives in the file.")


def exposure_loss(ranked: Counts | None, lost: Counts | None) -> Gate:
    """Judge units that were ranked but have no exposure: a loss that differs by arm selects who is counted."""
    key, title = "exposure_loss", "Exposure loss"
    if not ranked or lost is None:
        return Gate(key, title, "unknown", "Not known: the data have no ranking log.")
    shares = {arm: lost.get(arm, 0) / total for arm, total in ranked.items() if total}
    text = f"Units ranked without an exposure: {_by_arm(shares)}."
    if not any(lost.values()):
        return Gate(key, title, "pass", text)
    table = [[lost.get(arm, 0), total - lost.get(arm, 0)] for arm, total in ranked.items() if total]
    differs = len(table) > 1 and all(map(sum, zip(*table, strict=True))) and chi2_contingency(table).pvalue < ALPHA
    state: State = "block" if differs else "warn" if max(shares.values()) > LOST_SHARE else "pass"
    return Gate(key, title, state, text)


def outcomes(requests: Mapping[str, Sample] | None, control: str) -> Gate:
    """Judge rankings that were degraded, refused or failed.

    Args:
        requests: by arm: how many of each unit's rankings were not ok, over how many it had; None if not known.
        control: the arm that the others are compared with.
    """
    key, title = "outcomes", "Degraded, refused, failed"
    if not requests:
        return Gate(key, title, "unknown", "Not known: the data have neither a ranking log nor outcomes of exposures.")
    shares = {arm: _share(sample) for arm, sample in requests.items()}
    text = f"Rankings that were not ok: {_by_arm(shares)}."
    if max(shares.values()) > DEGRADED_SHARE:
        return Gate(key, title, "block", f"{text} Many users did not get the ranking of their arm.")
    others = (
        [estimate(requests[control], one) for arm, one in requests.items() if arm != control]
        if control in requests
        else []
    )
    if any(found is not None and found.p < ALPHA for found in others):
        return Gate(key, title, "warn", f"{text} The arms differ, and the lifts contain that.")
    return Gate(key, title, "pass", text)


def _share(sample: Sample) -> float:
    total = float(sample.denominator.sum()) if sample.denominator is not None else float(sample.n)
    return float(sample.value.sum()) / total if total else 0.0


def _by_arm(shares: Mapping[str, float]) -> str:
    return in_words([f"{arm} {percent(share, signed=False)}" for arm, share in shares.items()])


def _is_large(units: Counts, shares: Counts) -> bool:
    whole, total = sum(shares.values()), sum(units.get(arm, 0) for arm in shares)
    return total >= MIN_UNITS and all(total * share / whole >= _EXPECTED_MIN for share in shares.values() if share > 0)


def _split(units: Counts, shares: Counts) -> str:
    return " / ".join(f"{arm} {count(units.get(arm, 0))}" for arm, share in shares.items() if share > 0)


def _ratio(shares: Counts) -> str:
    whole = sum(shares.values())
    return " / ".join(f"{100 * share / whole:.4g}%" for share in shares.values() if share > 0)
