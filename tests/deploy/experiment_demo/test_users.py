"""The simulated users: their tastes, what they do with a list, and whether they come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploy.experiment_demo.interest import interest, probabilities
from deploy.experiment_demo.people import HISTORY, People, draw_users, read_people
from deploy.experiment_demo.session import away_probability, expected, return_probability, visit
from training.data.datasets import generated
from training.data.prepare import prepare

K, VISITS = 10, 1_500
SECONDS = np.linspace(40, 120, K)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people") / "small"
    prepare(generated.load(users=40, items=120, events=20, seed=1), folder, core=2)
    return folder


@pytest.fixture(scope="module")
def people(prepared: Path) -> People:
    return read_people(prepared, days=4, seed=3)


def test_interests_are_probabilities_and_higher_for_what_a_person_rated() -> None:
    draw = np.random.default_rng(5)
    taste = np.arange(200)[:, None] % 2 == np.arange(100) % 2  # half of the people rate the even items only
    rated = taste & (draw.random((200, 100)) < 0.3)
    found = interest(rated, seed=1)
    assert found.min() >= 0
    assert found.max() <= 1
    unrated = ~rated
    assert found[taste & unrated].mean() > 3 * found[~taste & unrated].mean()


def test_a_person_who_likes_everything_alike_has_equal_interests() -> None:
    assert np.ptp(probabilities(np.ones((2, 5)))) == 0


def test_all_probabilities_of_coming_are_probabilities() -> None:
    grid = np.linspace(0, 1, 11)
    after_visit = return_probability(grid[:, None], grid[None, :])
    for found in (np.asarray(after_visit), np.asarray(away_probability(grid))):
        assert found.min() >= 0
        assert found.max() <= 1


def test_more_satisfaction_today_makes_coming_tomorrow_more_likely() -> None:
    found = np.asarray(return_probability(0.4, np.linspace(0, 1, 11)))
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("place", [0, 4, K - 1])
def test_a_more_relevant_item_gives_more_satisfaction_finishes_and_likes(place: int) -> None:
    poor = np.full(K, 0.4)
    good = poor.copy()
    good[place] = 0.7
    before, after = expected(poor, SECONDS), expected(good, SECONDS)
    for name in ("satisfaction", "finish", "like", "playtime"):
        assert after[name] > before[name]


def test_the_better_order_of_the_same_items_gives_more_satisfaction() -> None:
    interests = np.linspace(0.9, 0.1, K)
    best, worst = expected(interests, SECONDS), expected(interests[::-1], SECONDS)
    assert best["satisfaction"] > worst["satisfaction"]


def test_visits_average_to_their_expectation() -> None:
    interests = np.linspace(0.8, 0.3, K)
    wanted = expected(interests, SECONDS)
    drawn: dict[str, list[float]] = {
        name: [] for name in ("play", "finish", "playtime", "like", "dislike", "satisfaction")
    }
    for number in range(VISITS):
        views, satisfaction = visit(np.arange(K), interests, SECONDS, np.random.default_rng([7, number]))
        drawn["play"].append(len(views))
        drawn["finish"].append(sum(view.seconds >= SECONDS[view.item] for view in views))
        drawn["playtime"].append(sum(view.seconds for view in views))
        drawn["like"].append(sum("like" in view.reactions for view in views))
        drawn["dislike"].append(sum("dislike" in view.reactions for view in views))
        drawn["satisfaction"].append(satisfaction)
    for name, values in drawn.items():
        error = np.std(values) / np.sqrt(VISITS)
        assert abs(np.mean(values) - wanted[name]) < 4 * error, name


def test_the_same_seed_gives_the_same_visit_and_another_seed_another() -> None:
    def of(seed: int) -> object:
        return visit(np.arange(K), np.full(K, 0.5), SECONDS, np.random.default_rng(seed))

    assert of(1) == of(1)
    assert of(1) != of(2)


def test_no_item_is_a_candidate_twice_or_in_the_history(people: People) -> None:
    for person, history in enumerate(people.histories):
        candidates = people.candidates[person].ravel()
        assert len(set(candidates)) == candidates.size
        assert not set(candidates) & set(history)
        assert 1 <= len(history) <= HISTORY


def test_people_and_users_are_the_same_for_the_same_seed(prepared: Path, people: People) -> None:
    again, other = read_people(prepared, days=4, seed=3), read_people(prepared, days=4, seed=4)
    assert np.array_equal(again.candidates, people.candidates)
    assert np.array_equal(again.interest, people.interest)
    assert not np.array_equal(other.candidates, people.candidates)
    assert list(draw_users(5, 40, 3)) == list(draw_users(5, 40, 3)) != list(draw_users(5, 40, 4))


def test_users_have_different_ids_and_a_time_inside_the_day() -> None:
    users = list(draw_users(200, 40, 3))
    assert len({user.id for user in users}) == 200
    assert all(0 < user.share_of_day < 0.9 for user in users)
