"""From credit per user to a preference, with an interval."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.interleave.credit import CREDITS, Counted
from analysis.text import MINUS, count, p_text, percent

MIN_USERS: Final = 10  # below, no interval can be trusted
_ALPHA: Final = 0.05
_EMPTY_ABOVE: Final = 0.95  # share of played items with credit; above, credit shows which items were seen
_UNFAIR_BELOW: Final = 0.001  # chance below which the coins cannot be fair


@dataclass(frozen=True)
class Preference:
    """One kind of credit: the mean over users of the treatment's credit less the control's.

    Args:
        credit: the kind.
        role: primary or secondary.
        users: how many.
        mean: from -1 to 1; above 0 users prefer the treatment.
        error: standard error of the mean.
        low, high: the 95% interval; None if there are too few users, or all have the same credit.
        p: of a one-sample t-test, two-sided.
        for_treatment, for_control, neither: users by the sign of their credit.
    """

    credit: str
    role: str
    users: int
    mean: float
    error: float
    low: float | None
    high: float | None
    p: float | None
    for_treatment: int
    for_control: int
    neither: int


@dataclass(frozen=True)
class Finding:
    """All that the report of an interleaving shows."""

    experiment: str
    simulated: bool
    treatment: str
    kind: str  # better, worse, no_difference, or unreadable
    sentence: str
    rows: tuple[Preference, ...]
    facts: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the report as plain data."""
        return asdict(self)


def preference(credit: str, role: str, values: NDArray[np.float64]) -> Preference:
    """Estimate one kind of credit from that of each user."""
    users = len(values)
    mean = float(values.mean()) if users else 0.0
    error = float(values.std(ddof=1)) / math.sqrt(users) if users > 1 else 0.0
    signs = [int(np.count_nonzero(side)) for side in (values > 0, values < 0, values == 0)]
    if users < MIN_USERS or error == 0:
        return Preference(credit, role, users, mean, error, None, None, None, *signs)
    half = float(stats.t.ppf(1 - _ALPHA / 2, users - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, users - 1))
    return Preference(credit, role, users, mean, error, mean - half, mean + half, p, *signs)


def finding(experiment: str, counted: Counted, primary: str, *, simulated: bool) -> Finding:
    """Judge an experiment by its primary credit, if its coins are fair."""
    names = [primary, *(name for name in CREDITS if name != primary)]
    rows = tuple(
        preference(name, "primary" if name == primary else "secondary", counted.credit[name]) for name in names
    )
    fairness = float(stats.binomtest(counted.first, counted.drafted).pvalue)
    kind, sentence = _verdict(rows[0], counted, fairness)
    marked = f"{sentence} All numbers are simulated." if simulated else sentence
    return Finding(experiment, simulated, counted.treatment, kind, marked, rows, _facts(counted, fairness))


def signed(number: float) -> str:
    """Return a credit with its sign."""
    return f"{MINUS if number < 0 else '+'}{abs(number):.4f}"


def _verdict(row: Preference, counted: Counted, fairness: float) -> tuple[str, str]:
    treatment, what = counted.treatment, row.credit.replace("_", " ")
    if fairness < _UNFAIR_BELOW:
        return "unreadable", (
            f"Not readable: {treatment} placed first in {count(counted.first)} of {count(counted.drafted)} rankings, "
            f"which fair coins do not do (p {p_text(fairness)}); request ids that repeat are a likely cause."
        )
    if counted.shares.get(row.credit, 0.0) > _EMPTY_ABOVE:
        share = percent(counted.shares[row.credit], signed=False)
        return "unreadable", (
            f"Not readable: {share} of the items played gave {what} credit, so it shows which items were seen, "
            "not which were liked; decide by another --credit."
        )
    if row.low is None or row.high is None or row.p is None:
        return "unreadable", f"Not readable: {count(row.users)} users whose credit is too few, or alike."
    numbers = f"{what} credit {signed(row.mean)} ({signed(row.low)} to {signed(row.high)}, p {p_text(row.p)})"
    users = f"{count(row.users)} users"
    if row.low > 0:
        return "better", f"Users prefer {treatment} to control: {numbers}, {users}."
    if row.high < 0:
        return "worse", f"Users prefer control to {treatment}: {numbers}, {users}."
    return "no_difference", f"No preference between {treatment} and control is found: {numbers}, {users}."


def _facts(counted: Counted, fairness: float) -> tuple[tuple[str, str], ...]:
    first = percent(counted.first / counted.drafted, signed=False)
    return (
        ("Users with interleaved rankings", count(counted.users)),
        ("Rankings with an answer", count(counted.rankings)),
        ("Rankings with teams", count(counted.drafted)),
        ("Answered by one model, without credit", count(counted.one_model)),
        ("Rankings without an answer", count(counted.unanswered)),
        *[
            (f"Played items with {name.replace('_', ' ')} credit", percent(share, signed=False))
            for name, share in counted.shares.items()
        ],
        (f"Rankings in which {counted.treatment} placed first", f"{first} (fair coins: p {p_text(fairness)})"),
    )
