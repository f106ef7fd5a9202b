"""The users of a chunk, drawn: how often each comes, how much they watch and how readily they like."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.rules import DAY
from analysis.synthetic.population import Population
from contract.experiments.buckets import bucket
from contract.experiments.fields import BUCKETS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHUNK: Final = 10_000
"""Users that are drawn together, each chunk from a seed of its own."""

_OFFSETS: Final = (480, 480, 480, 330, 0, -300)  # minutes east of UTC


class Users(NamedTuple):
    """A chunk of users, one place each."""

    numbers: Ints
    arms: Ints  # places in the population's arms
    exposed: Ints  # ms UTC
    offset: Ints  # minutes
    is_new: NDArray[np.bool_]
    rate: Floats  # sessions per day
    watching: Floats  # mean share of an item's length that is played
    liking: Floats  # probability per view
    has_second: NDArray[np.bool_]


def unit_name(number: int) -> str:
    """Return the id of a user."""
    return f"user-{number:07d}"


def draw_users(population: Population, chunk: int) -> tuple[Users, np.random.Generator]:
    """Draw the users of a chunk, and return the generator for what they do."""
    numbers = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, population.users), dtype=np.int64)
    n = len(numbers)
    rng = np.random.default_rng([population.seed, chunk])
    places = np.array([bucket(population.salt, "arm", unit_name(int(number))) for number in numbers], dtype=np.int64)
    taste = rng.normal(size=n)  # those who come often also watch more
    users = Users(
        numbers=numbers,
        arms=places * len(population.arms) // BUCKETS,
        exposed=population.start_ms + rng.integers(0, population.entry_days * DAY, n),
        offset=np.array(_OFFSETS, dtype=np.int64)[rng.integers(0, len(_OFFSETS), n)],
        is_new=rng.random(n) < population.newcomers,
        rate=population.sessions_per_day * np.exp(0.9 * taste - 0.405),
        watching=np.exp(0.35 * rng.normal(size=n) + 0.15 * taste - 0.75),
        liking=np.minimum(0.5, 0.02 * np.exp(1.2 * rng.normal(size=n) - 0.72)),
        has_second=rng.random(n) < population.second_devices,
    )
    return users, rng
