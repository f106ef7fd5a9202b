"""Rankings of the running service: of both arms for the truth, and of a user's own arm during the experiment."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from contract.command_line import CommandError
from deploy.experiment_demo.caller import Caller
from deploy.experiment_demo.definition import AA, AB, INTERLEAVED, LAYERS
from deploy.experiment_demo.people import Ints, People
from service.experiments.overrides import sign

SHOWN: Final = 10
_SENT: Final = 1_000  # behaviours in one request
_TRIES: Final = 5
_MINUTE_MS: Final = 60_000
_ARM: Final = re.compile(rf"\b{LAYERS[AB]}=(?:{AB}|{INTERLEAVED}):([a-z0-9_-]+)")


class Ranked(NamedTuple):
    """An answer of `POST /rank`.

    Attributes:
        request_id: its id.
        items: best first, as places in `People.items`.
        arm: the assigned arm of the A/B experiment, or `interleaved`.
        is_full: not degraded.
    """

    request_id: str
    items: Ints
    arm: str
    is_full: bool


class Ranker:
    """Ranks one person's candidates of a day for a user of the service.

    Args:
        caller: of the service.
        people: whose candidates these are.
    """

    def __init__(self, caller: Caller, people: People) -> None:
        self._caller, self._people = caller, people
        self._places = {item: place for place, item in enumerate(people.items)}

    async def rank(self, user: str, person: int, day: int, platform: str = "", override: str | None = None) -> Ranked:
        """Rank for a user, under an override header if there is one."""
        body: dict[str, object] = {"user_id": user, "candidates": self._people.candidate_ids(person, day)}
        body |= {"limit": SHOWN, "attributes": {"platform": platform} if platform else {}}
        answer = await self._caller.post("/rank", body, {"X-AB-Override": override} if override else None)
        found = _ARM.search(answer.headers["x-ab-bucket"])
        items = np.array([self._places[one["item_id"]] for one in answer.body["items"]])
        return Ranked(answer.body["request_id"], items, found[1] if found else "", not answer.body["degraded"])


def person_id(person: int) -> str:
    """Return the service's user that has a person's history and no visits, for the rankings of both arms."""
    return f"person-{person:04d}"


async def load_histories(caller: Caller, people: People, owners: Sequence[tuple[str, int]]) -> int:
    """Store the history of every user through `POST /behaviours`; returns how many behaviours.

    Args:
        caller: of the service.
        people: their histories.
        owners: user ids, each with the person whose history it gets.
    """
    behaviours = [one for user, person in owners for one in _history(people, user, person)]
    parts = [behaviours[begin : begin + _SENT] for begin in range(0, len(behaviours), _SENT)]
    await asyncio.gather(*(caller.post("/behaviours", {"behaviours": part}) for part in parts))
    return len(behaviours)


def _history(people: People, user: str, person: int) -> list[dict[str, Any]]:  # Any: JSON
    history = people.histories[person]
    first = time.time_ns() // 1_000_000 - (len(history) + 1) * _MINUTE_MS
    return [
        {"user_id": user, "item_id": people.items[item], "ts": first + place * _MINUTE_MS, "action": "finish"}
        for place, item in enumerate(history)
    ]


async def lists_of_arm(ranker: Ranker, people: People, arm: str, secret: str, on_done: Callable[[], None]) -> Ints:
    """Return (people, days, SHOWN) ranked items under an arm, for the persons' own ids, by signed overrides.

    Exposures under an override are forced: the analysis leaves them out.
    """

    async def one(person: int, day: int) -> Ints:
        user, value = person_id(person), f"{LAYERS[AB]}={AB}:{arm}, {LAYERS[AA]}={AA}:{arm}"
        for _ in range(_TRIES):
            ranked = await ranker.rank(user, person, day, override=sign(secret, int(time.time()), user, value))
            if ranked.arm == arm and ranked.is_full:
                break
        else:
            raise CommandError(f"no full ranking of {user} under {arm} in {_TRIES} tries: the machine is too busy")
        on_done()
        return ranked.items

    count, days = people.candidates.shape[:2]
    found = await asyncio.gather(*(one(person, day) for person in range(count) for day in range(days)))
    return np.array(found).reshape(count, days, -1)
