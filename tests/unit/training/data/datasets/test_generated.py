from __future__ import annotations

from itertools import pairwise

import numpy as np

from training.data.datasets.generated import load


def test_the_same_arguments_give_the_same_data() -> None:
    one, other = load(users=20, items=60, events=10), load(users=20, items=60, events=10)
    assert (one.digest, one.items, one.times_ms.tolist()) == (other.digest, other.items, other.times_ms.tolist())
    assert load(users=20, items=60, events=10, seed=5).items != one.items


def test_it_says_that_nothing_in_it_is_real() -> None:
    loaded = load(users=5, items=60, events=10)
    assert loaded.name == "generated catalogue"
    assert "no real users or items" in loaded.source


def test_the_next_part_of_a_series_often_comes_next() -> None:
    loaded = load(users=100, items=300, events=30)
    same_user = [one == other for one, other in pairwise(loaded.users)]
    steps = np.diff(np.array([int(item) for item in loaded.items]))[same_user]
    assert float((steps == 1).mean()) > 0.3


def test_times_rise_and_no_item_comes_twice() -> None:
    loaded = load(users=30, items=90, events=20)
    for user in set(loaded.users):
        places = [place for place, one in enumerate(loaded.users) if one == user]
        assert (np.diff(loaded.times_ms[places]) > 0).all()
        assert len({loaded.items[place] for place in places}) == len(places)


def test_every_item_has_a_title_a_year_and_a_genre() -> None:
    loaded = load(users=5, items=60, events=10)
    assert set(loaded.items) <= set(loaded.catalogue)
    assert all(facts.title and facts.year and facts.genres for facts in loaded.catalogue.values())
