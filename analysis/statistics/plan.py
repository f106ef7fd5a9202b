"""Users and days that a lift needs, before an experiment starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analysis.metrics import BY_NAME
from analysis.statistics.power import ALPHA, detectable_lift, units_per_arm

TEAMS: Final = (10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Spread:
    """How much a metric varies between users.

    Args:
        cv: standard deviation over mean.
        rho: correlation with the same time before.
        source: where the two come from.
    """

    cv: float
    rho: float
    source: str


_MEASURED: Final = "KuaiRand"
_ASSUMED: Final = "assumed"
SPREADS: Final[dict[str, Spread]] = {
    "active_days": Spread(0.58, 0.39, _MEASURED),
    "active_hours": Spread(0.90, 0.46, _MEASURED),
    "stay_duration": Spread(1.2, 0.27, _ASSUMED),
    "playtime": Spread(1.31, 0.27, _MEASURED),
    "publish": Spread(6.0, 0.0, _ASSUMED),
    "play": Spread(1.02, 0.46, _MEASURED),
    "finish": Spread(1.49, 0.28, _MEASURED),
    "like": Spread(5.1, 0.42, _MEASURED),
    "dislike": Spread(10.0, 0.0, _ASSUMED),
    "comment": Spread(8.7, 0.13, _MEASURED),
    "share": Spread(14.3, 0.04, _MEASURED),
    "follow": Spread(13.7, 0.24, _MEASURED),
}
"""KuaiRand-Pure: 25,156 users, 7 days before and 7 after. The set is a sample of all plays, so the correlations are
lower than in a whole log, and the users that it asks for are more."""

PAPER: Final[dict[str, float]] = {
    "active_days": 0.000403,
    "active_hours": 0.000476,
    "stay_duration": 0.000853,
    "playtime": 0.001106,
    "publish": 0.00093,
    "play": 0.000538,
    "finish": 0.001801,
    "like": 0.001761,
    "dislike": -0.000145,
    "comment": 0.002074,
    "share": 0.002284,
    "follow": 0.004876,
}
"""The lifts of Pyramid Mixer's online table, as effect sizes: this repository does not reproduce them."""


@dataclass(frozen=True)
class Design:
    """An experiment that is planned.

    Args:
        arms: with the control; all of one size.
        looks: readings; with more than one, the confidence sequence decides.
        traffic: users who enter per day.
        window_days: days that each user counts for.
    """

    arms: int = 2
    looks: int = 1
    traffic: int = 100_000
    window_days: int = 14

    @property
    def alpha(self) -> float:
        """Return the level of one comparison; Holm's first step divides it by the number of treatments."""
        return ALPHA / (self.arms - 1)


@dataclass(frozen=True)
class Need:
    """The users and days that a lift of a metric needs."""

    metric: str
    title: str
    lift: float
    cv: float
    rho: float
    source: str
    per_arm: int
    per_arm_without_history: int
    users: int
    days: int


def need(metric: str, lift: float, spread: Spread, design: Design) -> Need:
    """Return the users and days that a lift needs with 80% power."""
    plain, adjusted = (
        math.ceil(units_per_arm(lift, spread.cv, rho, alpha=design.alpha, looks=design.looks))
        for rho in (0.0, spread.rho)
    )
    users = adjusted * design.arms
    days = math.ceil(users / design.traffic) + design.window_days
    title = BY_NAME[metric].title
    return Need(metric, title, lift, spread.cv, spread.rho, spread.source, adjusted, plain, users, days)


def mde(users: int, spread: Spread, design: Design) -> float:
    """Return the smallest lift that all the users together, split over the arms, find with 80% power."""
    return detectable_lift(users / design.arms, spread.cv, spread.rho, alpha=design.alpha, looks=design.looks)


def worked_example(design: Design) -> list[Need]:
    """Return the needs of the paper's lifts."""
    return [need(metric, lift, SPREADS[metric], design) for metric, lift in PAPER.items()]


def team_table(design: Design, teams: Sequence[int] = TEAMS) -> dict[str, list[float]]:
    """Return the smallest lift by metric, for each size of a team's user base."""
    return {metric: [mde(users, spread, design) for users in teams] for metric, spread in SPREADS.items()}
