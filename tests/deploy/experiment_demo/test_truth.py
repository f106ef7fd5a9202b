"""The planted effect, against drawn days of the same users."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.experiment_demo import truth
from deploy.experiment_demo.people import People, User, draw_users
from deploy.experiment_demo.session import away_probability, return_probability, visit

PEOPLE, ITEMS, DAYS, K = 30, 90, 4, 10
USERS = 1_500


@pytest.fixture(scope="module")
def people() -> People:
    draw = np.random.default_rng(1)
    return People(
        [f"i{number}" for number in range(ITEMS)],
        draw.uniform(40, 120, ITEMS),
        draw.uniform(0.05, 0.95, (PEOPLE, ITEMS)),
        [np.array([0])] * PEOPLE,
        np.stack([draw.permutation(ITEMS)[: DAYS * 20].reshape(DAYS, 20) for _ in range(PEOPLE)]),
    )


def best_of(people: People, *, is_good: bool) -> np.ndarray:
    """Each day's ten most (or least) interesting candidates, in that order."""
    interests = np.take_along_axis(people.interest[:, None, :], people.candidates, axis=2)
    order = np.argsort(-interests if is_good else interests, axis=2)[:, :, :K]
    return np.take_along_axis(people.candidates, order, axis=2)


def lived(people: People, lists: np.ndarray, user: User, number: int) -> tuple[int, int, int]:
    """One user's drawn active days, plays and likes."""
    here, totals = True, np.zeros(3, dtype=int)
    for day in range(DAYS):
        draw = np.random.default_rng([5, number, day])
        chance, comes = draw.random(), away_probability(user.habit)
        if here:
            items = lists[user.person, day]
            views, satisfaction = visit(items, people.interest[user.person, items], people.seconds[items], draw)
            totals += [1, len(views), sum("like" in view.reactions for view in views)]
            comes = return_probability(user.habit, satisfaction)
        here = chance < comes
    return tuple(totals)  # type: ignore[return-value]


@pytest.mark.parametrize("is_good", [True, False])
def test_the_computed_means_are_those_of_drawn_users(people: People, is_good: bool) -> None:
    lists, users = best_of(people, is_good=is_good), list(draw_users(USERS, PEOPLE, 2))
    wanted = truth.means(people, lists, users)
    drawn = np.array([lived(people, lists, user, number) for number, user in enumerate(users)])
    errors = drawn.std(axis=0) / np.sqrt(USERS)
    for place, name in enumerate(("active_days", "play", "like")):
        assert abs(drawn[:, place].mean() - wanted[name]) < 4 * errors[place], name


def test_better_lists_have_a_positive_effect_and_equal_lists_none(people: People) -> None:
    users = list(draw_users(100, PEOPLE, 2))
    good, poor = (truth.means(people, best_of(people, is_good=is_good), users) for is_good in (True, False))
    planted = truth.lifts(poor, good)
    assert planted["active_days"] > 0.05
    assert planted["playtime"] > planted["active_days"]
    assert planted["dislike"] < planted["play"]
    assert set(truth.lifts(good, good).values()) == {0.0}


def test_all_users_come_on_the_first_day_and_probabilities_stay_between_0_and_1(people: People) -> None:
    here = truth.presence(np.full((3, DAYS), 0.9), np.array([0.0, 0.5, 1.0]))
    assert (here[:, 0] == 1).all()
    assert (here >= 0).all()
    assert (here <= 1).all()
    assert (np.diff(here[:, -1]) > 0).all()  # a stronger habit brings more visits
