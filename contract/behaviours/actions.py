"""The actions of a behaviour. Their order is part of the stored format: an action's code is 1 + its place."""

from __future__ import annotations

from typing import Final, Literal, get_args

Action = Literal[
    "impression", "click", "play", "finish", "like", "dislike", "comment", "share", "follow", "purchase", "rate"
]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
ACTION_CODES: Final[dict[str, int]] = {action: code for code, action in enumerate(ACTIONS, start=1)}
DEFAULT_ACTION: Final[Action] = "click"
