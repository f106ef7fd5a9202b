"""The crowd's part of the demo, over HTTP: histories, the planted effect, and the days."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress

from deploy.experiment_demo import truth
from deploy.experiment_demo.caller import Caller, calling
from deploy.experiment_demo.clock import Clock
from deploy.experiment_demo.definition import ARMS
from deploy.experiment_demo.feed import Feed, Totals
from deploy.experiment_demo.options import Plan
from deploy.experiment_demo.people import Ints, People, User
from deploy.experiment_demo.rankings import Ranker, lists_of_arm, load_histories, person_id
from deploy.stack import Stack

_CONNECTIONS = 48


@dataclass(frozen=True)
class Lived:
    """The result of the days.

    Attributes:
        planted: the true lift of each metric.
        totals: what happened.
        retried: answers that were asked for again.
    """

    planted: dict[str, float]
    totals: Totals
    retried: int


async def live(plan: Plan, stack: Stack, people: People, users: Sequence[User], console: Console) -> Lived:
    """Give every user a history, compute the planted effect, and live through the days."""
    async with calling(stack.port, _CONNECTIONS) as caller:
        await _load(caller, people, users, console)
        lists = await _both_arms(caller, stack, people, console)
        planted = truth.lifts(*(truth.means(people, lists[arm][:, : plan.days], users) for arm in ARMS))
        clock = Clock.after(time.time_ns() // 1_000_000, round(plan.day_seconds * 1000))
        feed = Feed(caller, people, users, clock, lists, plan.seed)
        with Progress(console=console) as progress:
            task = progress.add_task(f"{plan.lived} days of {plan.day_seconds:.0f} s", total=plan.lived)

            def told(day: int, came: int) -> None:
                progress.console.print(f"day {day}: {came:,} of {len(users):,} users came")
                progress.advance(task)

            totals = await feed.run(plan.lived, told)
        return Lived(planted, totals, sum(caller.retried.values()))


async def _load(caller: Caller, people: People, users: Sequence[User], console: Console) -> None:
    owners = [(person_id(person), person) for person in range(len(people.histories))]
    count = await load_histories(caller, people, [*owners, *((user.id, user.person) for user in users)])
    console.print(f"{len(users):,} simulated users, {count:,} behaviours stored through POST /behaviours")


async def _both_arms(caller: Caller, stack: Stack, people: People, console: Console) -> dict[str, Ints]:
    """Return the rankings of all people under both arms, which the planted effect is computed from."""
    ranker, lists = Ranker(caller, people), {}
    with Progress(console=console) as progress:
        task = progress.add_task("rankings of both arms", total=len(ARMS) * people.candidates[:, :, 0].size)
        for arm in ARMS:
            lists[arm] = await lists_of_arm(ranker, people, arm, stack.secret, lambda: progress.advance(task))
    return lists
