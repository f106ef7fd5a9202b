"""Under any mix of arrivals, gone callers, deadlines, slow batches and faults: every entry is answered exactly once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from service.flow import batcher as batcher_module
from service.flow.batcher import Batcher
from tests.support.clock import Clock, settle
from tests.support.fakes import BrokenLog

MAX_QUEUE, MAX_ROWS, MAX_COST = 5, 3, 10
SLOW_SECONDS = 0.001  # after which another batch may start beside one
ROUNDING = 1e-6
Outcome = int | Exception


@dataclass(frozen=True)
class Arrival:
    """A request: `seconds` it may take, and whether only its row fails or the whole batch."""

    cost: int
    seconds: float
    fate: str


@dataclass(frozen=True)
class Arrive:
    """Entries arrive together."""

    entries: tuple[Arrival, ...]


@dataclass(frozen=True)
class Leave:
    """The caller of the entry at this place (of those that came) hangs up."""

    place: int


@dataclass(frozen=True)
class Advance:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Finish:
    """A batch that runs ends: the one at this place (of those that run)."""

    place: int


@dataclass(frozen=True)
class Way:
    """How the batcher runs batches."""

    concurrency: int
    rows_at_once: int  # batches up to so many rows are run at once, where that may be
    drains: bool


class Entry:
    """One that waits, and all that happened to it."""

    def __init__(self, number: int, arrival: Arrival, now: float) -> None:
        self.number, self.fate, self.cost = number, arrival.fate, arrival.cost
        self.until = now + arrival.seconds
        self.queued_at = self.waited = -1.0
        self.is_over = self.came_late = False
        self.outcomes: list[Outcome] = []
        self.answered_at = self.started_at = self.gone_at = math.nan
        self.next: Entry | None = None  # comes when this one is answered


@dataclass
class Flight:
    """A batch that runs."""

    entries: list[Entry]
    began: float
    gate: asyncio.Event = field(default_factory=asyncio.Event)


class World:
    """A batcher, and a record of all that happens to it."""

    def __init__(self, loop: Clock, way: Way) -> None:
        self.loop, self.way = loop, way
        self.entries: list[Entry] = []
        self.batches: list[list[Entry]] = []
        self.flights: list[Flight] = []
        self.deepest = 0
        self.is_closing = False
        self.batcher: Batcher[Entry, int] = Batcher(
            self.run, self.answered, max_queue=MAX_QUEUE, max_rows=MAX_ROWS, max_cost=MAX_COST, name="t",
            observer=self, concurrency=way.concurrency, run_now=self.run_now if way.rows_at_once else None,
        )  # fmt: skip

    # --- what the batcher calls

    def task_failed(self, task: str) -> None:
        raise AssertionError("a task ended by a fault")

    def task_restarted(self, task: str) -> None:
        raise AssertionError("a task was started again")

    def queue_depth(self, name: str, entries: int) -> None:
        self.deepest = max(self.deepest, entries)

    def batch(self, name: str, rows: int, cost: int) -> None:
        assert rows == 1 or (rows <= MAX_ROWS and cost <= MAX_COST)

    async def run(self, entries: list[Entry]) -> Sequence[Outcome]:
        flight = Flight(entries, self.loop.now)
        self.check_start(flight)
        self.flights.append(flight)
        await flight.gate.wait()
        self.flights.remove(flight)
        return self.values(entries)

    def run_now(self, entries: list[Entry]) -> Sequence[Outcome] | None:
        assert not self.flights, "a batch was run at once beside another"
        if len(entries) > self.way.rows_at_once:
            return None
        self.note_start(entries)
        return self.values(entries)

    def answered(self, entries: Sequence[Entry], values: Sequence[Outcome]) -> None:
        for entry, value in zip(entries, values, strict=True):
            entry.outcomes.append(value)
            entry.answered_at = self.loop.now
            if entry.next is not None:
                entry.next.came_late = self.is_closing
                self.batcher.submit([entry.next])
        if any(entry.fate == "unanswerable" for entry in entries):
            raise ValueError("unforeseen")

    # --- checks

    def check_start(self, flight: Flight) -> None:
        """No batch starts beside one that is not slow yet, and no more run at once than may."""
        self.note_start(flight.entries)
        assert len(self.flights) < self.way.concurrency
        assert all(self.loop.now - other.began >= SLOW_SECONDS - ROUNDING for other in self.flights)

    def note_start(self, entries: list[Entry]) -> None:
        assert not any(entry.is_over for entry in entries)
        self.batches.append(list(entries))
        for entry in entries:
            assert math.isnan(entry.started_at), "an entry ran twice"
            entry.started_at = self.loop.now

    def values(self, entries: Sequence[Entry]) -> list[Outcome]:
        if any(entry.fate == "batch" for entry in entries):
            raise ValueError("the whole batch")
        return [InferenceFailed("row") if entry.fate == "row" else entry.number * 10 for entry in entries]

    def check_idle(self) -> None:
        """While nothing waits and nothing runs, no timer is left; while something waits, something runs."""
        if self.flights:
            return
        waiting = [one for one in self.entries if not one.outcomes and not one.is_over]
        assert waiting == [], "entries wait while nothing runs"
        assert self.loop.timers() == [], "a timer is left"

    def check_deadlines(self) -> None:
        for entry in self.entries:
            assert entry.outcomes or entry.is_over or entry.until > self.loop.now, "an entry waits beyond its time"

    # --- steps

    async def take(self, step: object) -> None:
        if isinstance(step, Arrive):
            self.arrive(step.entries)
        elif isinstance(step, Leave) and self.entries:
            self.leave(self.entries[step.place % len(self.entries)])
        elif isinstance(step, Advance):
            self.loop.now += step.seconds
        elif isinstance(step, Finish) and self.flights:
            self.flights[step.place % len(self.flights)].gate.set()
        await settle()
        self.check_deadlines()
        self.check_idle()

    def arrive(self, arrivals: Sequence[Arrival]) -> None:
        made = [Entry(len(self.entries) + place, one, self.loop.now) for place, one in enumerate(arrivals)]
        self.entries += made
        chained = [one for one in made if one.fate == "chained"]
        for one in chained:
            one.next = Entry(len(self.entries), Arrival(1, math.inf, "well"), self.loop.now)
            self.entries.append(one.next)
        self.batcher.submit(made)

    def leave(self, entry: Entry) -> None:
        if not entry.outcomes and not entry.is_over:
            entry.is_over, entry.gone_at = True, self.loop.now
            if entry.next is not None:
                entry.next.is_over = True  # it will never come
            entry.next = None

    async def close(self) -> None:
        self.is_closing = True
        closing = asyncio.create_task(self.batcher.close(drain=self.way.drains))
        while not closing.done():
            for flight in self.flights:
                flight.gate.set()
            await settle()
        await closing
        self.check_idle()


async def play(steps: Sequence[object], way: Way) -> World:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clock)
    world = World(loop, way)
    for step in steps:
        await world.take(step)
    await world.close()
    return world


COMMON = st.builds(Arrival, cost=st.just(1), seconds=st.just(math.inf), fate=st.just("well"))
ODD = st.builds(
    Arrival,
    cost=st.integers(0, 15),
    seconds=st.sampled_from([0.0, 0.0005, 1.0, 2.0, math.inf]),
    fate=st.sampled_from(["well", "well", "row", "batch", "unanswerable", "chained"]),
)
STEPS = st.lists(
    st.one_of(
        st.builds(Arrive, st.lists(st.one_of(COMMON, ODD), min_size=1, max_size=4).map(tuple)),
        st.builds(Arrive, st.tuples(COMMON)),
        st.builds(Leave, place=st.integers(0, 60)),
        st.builds(Advance, seconds=st.sampled_from([0.0005, 0.001, 0.5, 1.0, 3.0])),
        st.builds(Finish, place=st.integers(0, 3)),
    ),
    max_size=40,
)
WAYS = st.builds(
    Way, concurrency=st.sampled_from([1, 1, 2, 3]), rows_at_once=st.just(0), drains=st.booleans()
) | st.builds(Way, concurrency=st.just(1), rows_at_once=st.integers(1, MAX_ROWS), drains=st.booleans())


@settings(max_examples=2 * settings.default.max_examples, deadline=None)
@given(steps=STEPS, way=WAYS)
def test_every_entry_is_answered_exactly_once_and_in_order(steps: list[object], way: Way) -> None:
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=Clock) as runner:
        patch.setattr(batcher_module, "_log", BrokenLog())
        world = runner.run(play(steps, way))
    ran = [entry.queued_at for batch in world.batches for entry in batch]
    assert ran == sorted(ran)  # none out of the order in which they came
    assert world.deepest <= MAX_QUEUE
    for entry in world.entries:
        check(world, entry)


def check(world: World, entry: Entry) -> None:
    """The answer of one entry fits what happened to it."""
    if entry.is_over:
        assert entry.outcomes == []
        assert math.isnan(entry.started_at) or entry.started_at <= entry.gone_at
        return
    [outcome] = entry.outcomes
    has_run = not math.isnan(entry.started_at)
    if isinstance(outcome, int):
        assert outcome == entry.number * 10
        assert entry.waited >= 0
        assert entry.fate not in ("row", "batch")
        return
    expected: dict[type[Exception], Callable[[], bool]] = {
        InferenceFailed: lambda: has_run and entry.fate == "row",
        ValueError: lambda: has_run and any(other.fate == "batch" for other in batch_of(world, entry)),
        DeadlineExceeded: lambda: entry.answered_at >= entry.until - ROUNDING,
        Overloaded: lambda: not has_run,
        NotReady: lambda: not has_run and (entry.came_late or not world.way.drains),
    }
    assert expected[type(outcome)](), outcome


def batch_of(world: World, entry: Entry) -> list[Entry]:
    return next(batch for batch in world.batches if entry in batch)
