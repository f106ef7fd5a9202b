"""The days of the experiment: every user who comes asks for a ranking, reacts to it, and sends the events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from contract.command_line import CommandError
from contract.experiments.interleaving import INTERLEAVED, team_draft
from deploy.experiment_demo.activity import Item, Visit, reports
from deploy.experiment_demo.caller import Caller
from deploy.experiment_demo.clock import DAY_SECONDS, Clock
from deploy.experiment_demo.definition import ARMS
from deploy.experiment_demo.people import Ints, People, User
from deploy.experiment_demo.rankings import Ranked, Ranker
from deploy.experiment_demo.session import away_probability, return_probability, visit

_LAST_DAY: Final = 0.95  # when visits of the last day begin: all windows have ended by then, and the last day shows it


@dataclass
class Totals:
    """Counts of the run.

    Attributes:
        visits: rankings that were asked for and answered.
        events: events that the service took.
        degraded: rankings that were not full quality.
        unlike: rankings that differ from those that the truth was computed with.
        late_ms: the longest time between when a visit was due and when its ranking was asked for.
    """

    visits: int = 0
    events: int = 0
    degraded: int = 0
    unlike: int = 0
    late_ms: int = 0


class Feed:
    """The crowd's side of the experiment.

    Args:
        caller: of the service.
        people: tastes and candidates.
        users: who takes part; all come on day 0.
        clock: the simulated days.
        lists: the rankings of each arm, (people, days, K), to compare with.
        seed: of what users do. The luck of a user on a day does not depend on what is ranked.
    """

    def __init__(
        self,
        caller: Caller,
        people: People,
        users: Sequence[User],
        clock: Clock,
        lists: Mapping[str, Ints],
        seed: int,
    ) -> None:
        self._caller, self._people, self._users, self._clock = caller, people, users, clock
        self._lists, self._seed = lists, seed
        self._ranker = Ranker(caller, people)
        self.totals = Totals()

    async def run(self, days: int, on_day: Callable[[int, int], None]) -> Totals:
        """Live through the days.

        Args:
            days: how many.
            on_day: called after each with its number and how many users came.
        """
        here = set(range(len(self._users)))
        for day in range(days):
            is_last = day == days - 1
            lives = [self._live(number, day, number in here, is_last) for number in range(len(self._users))]
            tomorrow = await asyncio.gather(*lives)
            on_day(day, len(here))
            here = {number for number, comes in enumerate(tomorrow) if comes}
        return self.totals

    async def _live(self, number: int, day: int, is_here: bool, is_last: bool) -> bool:
        """Live through one user's day; returns whether the user comes tomorrow."""
        user, draw = self._users[number], np.random.default_rng([self._seed, number, day])
        comes_below = draw.random()
        if not is_here:
            return bool(comes_below < away_probability(user.habit))
        satisfaction = await self._visit(user, day, draw, is_last)
        return bool(comes_below < return_probability(user.habit, satisfaction))

    async def _visit(self, user: User, day: int, draw: np.random.Generator, is_last: bool) -> float:
        share = user.share_of_day * (1 - _LAST_DAY) + _LAST_DAY if is_last else user.share_of_day
        begin = share * DAY_SECONDS
        due_ms = self._clock.real_ms(day, begin)
        await _until(due_ms)
        self.totals.late_ms = max(self.totals.late_ms, _now_ms() - due_ms)
        ranked = await self._ranker.rank(user.id, user.person, day, user.platform)
        self._compare(ranked, user, day)
        interests = self._people.interest[user.person, ranked.items]
        views, satisfaction = visit(ranked.items, interests, self._people.seconds[ranked.items], draw)
        await self._send(Visit(user, day, ranked.request_id, views), begin)
        return satisfaction

    async def _send(self, seen: Visit, begin: float) -> None:
        # A ranking takes real milliseconds, which are simulated minutes: the visit begins when the ranking is there.
        now = (_now_ms() - self._clock.real_ms(seen.day, 0)) * DAY_SECONDS / self._clock.day_ms
        start = max(begin, now)
        events = reports(seen, self._item, lambda second: self._clock.real_ms(seen.day, start + second))
        await _until(events[-1]["ts"])
        answer = await self._caller.post("/feedback?ack=stored", {"feedback": events})
        self.totals.events += int(answer.body["accepted"])

    def _compare(self, ranked: Ranked, user: User, day: int) -> None:
        self.totals.visits += 1
        self.totals.degraded += not ranked.is_full
        if ranked.arm not in (*self._lists, INTERLEAVED):
            raise CommandError(f"{user.id} has no arm on day {day}: the experiments do not run")
        self.totals.unlike += not np.array_equal(self._expected(ranked, user, day), ranked.items)

    def _expected(self, ranked: Ranked, user: User, day: int) -> Ints:
        """Return the list that the truth was computed with: the arm's, or the draft of both."""
        if ranked.arm in self._lists:
            known: Ints = self._lists[ranked.arm][user.person, day]
            return known
        first, second = [list(map(str, self._lists[arm][user.person, day])) for arm in ARMS]
        return np.array([int(item) for item in team_draft(ranked.request_id, first, second, len(first)).items])

    def _item(self, place: int) -> Item:
        return Item(self._people.items[place], float(self._people.seconds[place]))


async def _until(real_ms: int) -> None:
    await asyncio.sleep(max(0.0, (real_ms - _now_ms()) / 1000))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
