"""Who takes part: the people of MovieLens-100k, and a crowd of simulated users, each with one person's taste."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from contract.files import read_object
from deploy.experiment_demo.interest import Floats, interest

Ints = npt.NDArray[np.int64]

HISTORY: Final = 30  # behaviours that the service knows of each user
CANDIDATES: Final = 100
_KNOWN_SHARE: Final = 0.6  # of a person's ratings in order of time; the history ends there
_PLATFORMS: Final = ("android", "android", "ios")
_SHORTEST, _LONGEST = 40, 120  # seconds of an item
_EARLIEST, _LATEST = 0.05, 0.7  # when in the day a user comes, as a share of the day


@dataclass(frozen=True)
class People:
    """The people whose tastes the users have.

    Attributes:
        items: item ids; all arrays count items from 0.
        seconds: (items,) length of each item.
        interest: (people, items) probability of finishing an item.
        histories: each person's items that the service knows, oldest first.
        candidates: (people, days, candidates); no item is a candidate twice for the same person.
    """

    items: list[str]
    seconds: Floats
    interest: Floats
    histories: list[Ints]
    candidates: Ints

    def candidate_ids(self, person: int, day: int) -> list[str]:
        """Return the ids of one day's candidates."""
        return [self.items[item] for item in self.candidates[person, day]]


@dataclass(frozen=True)
class User:
    """A simulated user."""

    id: str
    person: int
    habit: float  # 0 to 1: how much of coming back does not depend on the rankings
    share_of_day: float  # when in the day
    platform: str

    @property
    def device(self) -> str:
        """Return the name of the user's only device."""
        return f"{self.id}-phone"


def read_people(prepared: Path, days: int, seed: int) -> People:
    """Return the people of a prepared data set.

    Args:
        prepared: a folder of `python -m training prepare`.
        days: for which there are candidates.
        seed: of everything that is drawn.
    """
    items = list(read_object(prepared / "items.json")["ids"])
    with np.load(prepared / "interactions.npz") as stored:
        starts, seen = stored["user_starts"], stored["items"] - 1
    met = [seen[begin:end] for begin, end in pairwise(starts)]
    rated = np.zeros((len(met), len(items)), dtype=bool)
    for person, own in enumerate(met):
        rated[person, own] = True
    draw = np.random.default_rng([seed, 1])
    histories = [own[: max(1, int(len(own) * _KNOWN_SHARE))][-HISTORY:] for own in met]
    return People(
        items,
        draw.integers(_SHORTEST, _LONGEST, len(items), endpoint=True).astype(np.float64),
        interest(rated, seed),
        histories,
        _candidates(histories, len(items), days, draw),
    )


def _candidates(histories: list[Ints], items: int, days: int, draw: np.random.Generator) -> Ints:
    """Draw candidates outside the histories: a like of the same item on two days would count once."""
    size = min(CANDIDATES, (items - max(map(len, histories))) // days)
    pools = [draw.permutation(np.setdiff1d(np.arange(items), own))[: days * size] for own in histories]
    return np.array(pools).reshape(len(histories), days, size)


def user_id(number: int) -> str:
    """Return the id of a simulated user."""
    return f"simulated-{number:05d}"


def draw_users(count: int, people: int, seed: int) -> Iterator[User]:
    """Yield users with a taste, a habit and a time of day."""
    draw = np.random.default_rng([seed, 2])
    for number in range(count):
        person = int(draw.integers(people))
        habit, share = float(draw.beta(2, 2)), float(draw.uniform(_EARLIEST, _LATEST))
        yield User(user_id(number), person, habit, share, _PLATFORMS[number % len(_PLATFORMS)])
