"""The planted effect: what every user would do on average in either arm, computed and not drawn.

The days are a Markov chain with two states, here and away. Coming back is linear in the day's satisfaction, so the
expected satisfaction of a day's list gives the exact probability of the next day, and sums over days are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploy.experiment_demo.interest import Floats
from deploy.experiment_demo.people import Ints, People, User
from deploy.experiment_demo.session import away_probability, expected, return_probability

RATIOS = {"finish_rate": ("finish", "play"), "like_rate": ("like", "play"), "follow_rate": ("follow", "play")}


def means(people: People, lists: Ints, users: Sequence[User]) -> dict[str, float]:
    """Return the expected outcome per user over the window, by metric, if all users got these lists.

    Args:
        people: their tastes.
        lists: (people, days, K) ranked items.
        users: all of them; each comes on day 0.
    """
    rows = np.arange(len(lists))[:, None, None]
    by_day = expected(people.interest[rows, lists], people.seconds[lists])
    persons = np.array([user.person for user in users])
    here = presence(by_day.pop("satisfaction")[persons], np.array([user.habit for user in users]))
    found = {name: float((here * values[persons]).sum(axis=1).mean()) for name, values in by_day.items()}
    found["active_days"] = float(here.sum(axis=1).mean())
    ratios = {name: found[over] / found[under] for name, (over, under) in RATIOS.items()}
    return {**found, **ratios}


def presence(satisfaction: Floats, habit: Floats) -> Floats:
    """Return (users, days) probabilities of coming on each day, 1 on the first.

    Args:
        satisfaction: (users, days) expected satisfaction of a visit.
        habit: (users,).
    """
    here = np.ones_like(satisfaction)
    for day in range(1, satisfaction.shape[1]):
        before = here[:, day - 1]
        after_visit = return_probability(habit, satisfaction[:, day - 1])
        here[:, day] = before * after_visit + (1 - before) * away_probability(habit)
    return here


def lifts(control: dict[str, float], treatment: dict[str, float]) -> dict[str, float]:
    """Return the relative difference of each metric."""
    return {name: treatment[name] / control[name] - 1 for name in control if control[name]}
