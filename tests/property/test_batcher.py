"""Under any mix of arrivals, cancellations, deadlines and failures: every entry is answered exactly once, in order."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from service.flow.batcher import Batcher

MAX_QUEUE, MAX_ROWS, MAX_COST = 5, 3, 10


@dataclass(frozen=True)
class Arrival:
    """An entry arrives; `seconds` it may take, and whether its own row fails or the whole batch with it."""

    cost: int
    seconds: float
    fate: str


@dataclass(frozen=True)
class Cancel:
    """The caller of the entry at this place (of those that came) hangs up."""

    place: int


@dataclass(frozen=True)
class Advance:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Finish:
    """The batch that runs ends."""


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when told to."""

    now = 0.0

    def time(self) -> float:
        return self.now


@dataclass
class World:
    """A batcher, and a record of all that happens to it."""

    batches: list[list[int]] = field(default_factory=list)
    started: dict[int, float] = field(default_factory=dict)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    gates: list[asyncio.Event] = field(default_factory=list)
    gone: dict[int, float] = field(default_factory=dict)  # entry to the time it was cancelled, while not done
    deepest: int = 0

    def task_failed(self, task: str) -> None:
        raise AssertionError("a worker ended by a fault")

    def task_restarted(self, task: str) -> None:
        raise AssertionError("a worker was started again")

    def queue_depth(self, name: str, entries: int) -> None:
        self.deepest = max(self.deepest, entries)

    def batch(self, name: str, rows: int, cost: int) -> None:
        assert rows == 1 or (rows <= MAX_ROWS and cost <= MAX_COST)

    async def run(self, items: list[int]) -> Sequence[int | Exception]:
        loop = asyncio.get_running_loop()
        self.batches.append(items)
        self.started |= dict.fromkeys(items, loop.time())
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        if any(self.arrivals[item].fate == "batch" for item in items):
            raise ValueError("the whole batch")
        return [InferenceFailed("row") if self.arrivals[item].fate == "row" else item * 10 for item in items]


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


def finish(world: World) -> None:
    for gate in world.gates:
        gate.set()


async def play(world: World, steps: Sequence[object], drain: bool) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clock)
    batcher: Batcher[int, int] = Batcher(
        world.run, max_queue=MAX_QUEUE, max_rows=MAX_ROWS, max_cost=MAX_COST, name="t", observer=world
    )
    batcher.start()
    for step in steps:
        if isinstance(step, Arrival):
            item = len(world.arrivals)
            world.arrivals.append(step)
            submit = batcher.submit(item, cost=step.cost, deadline=loop.now + step.seconds)
            world.tasks.append(asyncio.create_task(submit))
        elif isinstance(step, Cancel) and world.tasks:
            task = world.tasks[step.place % len(world.tasks)]
            if not task.done():
                world.gone[step.place % len(world.tasks)] = loop.now
                task.cancel()
        elif isinstance(step, Advance):
            loop.now += step.seconds
        elif isinstance(step, Finish):
            finish(world)
        await settle()
    closing = asyncio.create_task(batcher.close(drain=drain))
    while not closing.done():
        finish(world)
        await settle()
    await asyncio.gather(*world.tasks, return_exceptions=True)


STEPS = st.lists(
    st.one_of(
        st.builds(
            Arrival,
            cost=st.integers(0, 15),
            seconds=st.sampled_from([0.0, 1.0, 2.0, math.inf]),
            fate=st.sampled_from(["well", "well", "row", "batch"]),
        ),
        st.builds(Arrival, cost=st.just(1), seconds=st.just(math.inf), fate=st.just("well")),
        st.builds(Cancel, place=st.integers(0, 30)),
        st.builds(Advance, seconds=st.sampled_from([0.5, 1.0, 3.0])),
        st.builds(Finish),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, drain=st.booleans())
def test_every_entry_is_answered_exactly_once_and_in_order(steps: list[object], drain: bool) -> None:
    world = World()
    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(play(world, steps, drain))
    ran = [item for batch in world.batches for item in batch]
    assert ran == sorted(set(ran))  # none twice, none out of order
    assert world.deepest <= MAX_QUEUE
    for item, (arrival, task) in enumerate(zip(world.arrivals, world.tasks, strict=True)):
        check(world, item, arrival, task, drain)


def check(world: World, item: int, arrival: Arrival, task: asyncio.Task[Any], drain: bool) -> None:
    """The answer of one entry fits what happened to it."""
    assert task.done()
    if task.cancelled():
        assert item in world.gone
        assert world.started.get(item, -1.0) <= world.gone[item]
        return
    error = task.exception()
    if error is None:
        assert task.result().value == item * 10
        assert task.result().queue_seconds >= 0
        assert arrival.fate == "well"
    elif isinstance(error, InferenceFailed):
        assert arrival.fate == "row"
        assert item in world.started
    elif isinstance(error, ValueError):
        batch = next(batch for batch in world.batches if item in batch)
        assert any(world.arrivals[other].fate == "batch" for other in batch)
    elif isinstance(error, DeadlineExceeded):
        assert math.isfinite(arrival.seconds)
    elif isinstance(error, Overloaded):
        assert item not in world.started
    else:
        assert isinstance(error, NotReady)
        assert not drain
        assert item not in world.started
