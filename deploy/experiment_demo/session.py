"""How a simulated user reacts to a ranked list, as expectations and as draws from the same probabilities.

The user sees the list from the top. Each item is finished with the probability of the user's interest in it, else left
early. A finished item may be liked, commented, shared, its author followed; one that is left may be disliked. The more
interesting an item was, the more likely the user is to see the next one. The share of the list that was finished is
the day's satisfaction, and coming back the next day depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from deploy.experiment_demo.interest import Floats

Reaction = Literal["like", "comment", "share", "follow", "dislike"]

GAP_SECONDS: Final = 2.0  # between two items
_GO_ON: Final = (0.70, 0.28)  # probability of seeing the next item: this, and this times the interest
_LEFT: Final = (0.2, 0.7)  # share of an item that is played if it is left early, uniform
_IF_FINISHED: Final[dict[Reaction, float]] = {"like": 0.2, "comment": 0.02, "share": 0.02, "follow": 0.04}
_IF_LEFT: Final[dict[Reaction, float]] = {"dislike": 0.03}
REACTIONS: Final[tuple[Reaction, ...]] = (*_IF_FINISHED, *_IF_LEFT)
_RETURN: Final = (0.3, 0.65)  # probability of coming tomorrow: this times the habit, and this times the satisfaction
_RETURN_AWAY: Final = 0.3  # after a day away: this times the habit


@dataclass(frozen=True)
class View:
    """One item that was seen."""

    item: int
    seconds: float  # played
    reactions: tuple[Reaction, ...]


def expected(interests: Floats, seconds: Floats) -> dict[str, Floats]:
    """Return the expected outcomes of visits, by metric.

    Args:
        interests: (..., K) probabilities of finishing the items in the order of the lists.
        seconds: (..., K) lengths of the items.
    """
    go_on = _GO_ON[0] + _GO_ON[1] * interests[..., :-1]
    seen = np.concatenate([np.ones((*interests.shape[:-1], 1)), np.cumprod(go_on, axis=-1)], axis=-1)
    finished = (seen * interests).sum(axis=-1)
    plays = seen.sum(axis=-1)
    played = (seen * seconds * (interests + (1 - interests) * sum(_LEFT) / 2)).sum(axis=-1)
    return {
        "play": plays,
        "finish": finished,
        "playtime": played,
        "stay_duration": played + GAP_SECONDS * plays,
        **{name: rate * finished for name, rate in _IF_FINISHED.items()},
        **{name: rate * (plays - finished) for name, rate in _IF_LEFT.items()},
        "satisfaction": finished / interests.shape[-1],
    }


def visit(
    items: npt.NDArray[np.int64], interests: Floats, seconds: Floats, draw: np.random.Generator
) -> tuple[list[View], float]:
    """Draw one visit; returns the views and the satisfaction.

    Args:
        items: the list, best first.
        interests: probabilities of finishing them.
        seconds: their lengths.
        draw: as many numbers are drawn for any list, so that two lists can be compared with the same luck.
    """
    luck = draw.random((len(items), 3 + len(REACTIONS)))
    views: list[View] = []
    finished = 0
    for item, interest, length, (finish, left, next_one, *reacts) in zip(items, interests, seconds, luck, strict=True):
        is_finished = bool(finish < interest)
        finished += is_finished
        played = length if is_finished else length * (_LEFT[0] + (_LEFT[1] - _LEFT[0]) * left)
        rates = _IF_FINISHED if is_finished else _IF_LEFT
        chances = dict(zip(REACTIONS, reacts, strict=True))
        views.append(
            View(int(item), float(played), tuple(name for name, rate in rates.items() if chances[name] < rate))
        )
        if next_one >= _GO_ON[0] + _GO_ON[1] * interest:
            break
    return views, finished / len(items)


def return_probability(habit: Floats | float, satisfaction: Floats | float) -> Floats | float:
    """Return the probability of coming tomorrow after a visit today."""
    return _RETURN[0] * habit + _RETURN[1] * satisfaction


def away_probability(habit: Floats | float) -> Floats | float:
    """Return the probability of coming tomorrow after a day away."""
    return _RETURN_AWAY * habit
