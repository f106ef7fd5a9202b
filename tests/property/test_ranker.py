"""Under any mix of callers, deadlines and slow or failing stores and engines: every ranking ends once, and in time."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.behaviours.records import RECORD
from contract.experiments.decision import Decision
from service.bundles.bundle import Bundle, load_bundle
from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded, RankerError
from service.experiments.exposures import Outcome
from service.flow import batcher as batcher_module
from service.flow.batcher import Batcher
from service.inference.deployment import Scoring
from service.inference.engine import OnnxEngine
from service.inference.scorer import Inference, ScoredRow
from service.inference.state_cache import StateCache
from service.metrics import Metrics
from service.ranking import ranker as ranker_module
from service.ranking.call import RankCall
from service.ranking.ranker import Ranker
from service.store.behaviours import StoredBehaviours
from tests.support.builders import TinyModel, behaviours
from tests.support.clock import Clock, settle
from tests.support.fakes import BrokenLog
from tests.support.rankings import CONTROL, TREATMENT, Experiments, both_models, decision_of, settings_of

pytestmark = pytest.mark.onnx

MOST, READ_SECONDS = 6, 0.06  # calls that may wait for a read; how long one is waited for


@dataclass(frozen=True)
class Wish:
    """A caller's request, and its oddity."""

    arm: str
    seconds: float
    oddity: str
    has_history: bool


@dataclass(frozen=True)
class Ask:
    """Calls arrive in one pass of the event loop."""

    wishes: tuple[Wish, ...]


@dataclass(frozen=True)
class Leave:
    """The caller at this place (of those that came) hangs up."""

    place: int


@dataclass(frozen=True)
class Advance:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Finish:
    """A read or a run that is under way ends, well or not."""

    place: int
    is_well: bool


@dataclass(frozen=True)
class Turn:
    """An engine breaks, is slow, or works again."""

    model: str
    health: str


def decision_of_arm(arm: str) -> Decision:
    return both_models() if arm == "interleaved" else decision_of(arm)


class Call(RankCall):
    """A call that notes how it ends."""

    def __init__(self, wish: Wish, *given: Any, **fields: Any) -> None:
        super().__init__(*given, **fields)
        self.wish = wish
        self.ended_at: list[float] = []

    def finished(self) -> None:
        self.ended_at.append(asyncio.get_running_loop().time())
        if self.wish.oddity == "cannot be handed over":
            raise ZeroDivisionError("unforeseen")


@dataclass
class Flight:
    """A read or a run under way."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    is_well: bool = True


class Flights:
    """Everything that is under way, in the order of its beginning."""

    def __init__(self) -> None:
        self.open: list[Flight] = []

    async def one(self) -> bool:
        """Wait until this flight is told to end; return whether well."""
        flight = Flight()
        self.open.append(flight)
        await flight.gate.wait()
        self.open.remove(flight)
        return flight.is_well


class Store:
    """Reads that end when they are told to."""

    def __init__(self, flights: Flights, world: World) -> None:
        self._flights, self._world = flights, world

    def begin_read(self, user_ids: Sequence[str], done: Callable[[list[StoredBehaviours]], None]) -> bool:
        return False

    async def read(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        return await self._answer(user_ids, truncated=True)

    async def read_whole(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        return await self._answer(user_ids, truncated=False)

    async def _answer(self, user_ids: Sequence[str], *, truncated: bool) -> list[StoredBehaviours]:
        assert not any(self._world.calls[int(user)].ended_at for user in user_ids), "read for a caller who has gone"
        if not await self._flights.one():
            raise ZeroDivisionError("unforeseen")
        return [self._of(self._world.calls[int(user)].wish, truncated) for user in user_ids]

    def _of(self, wish: Wish, truncated: bool) -> StoredBehaviours:
        if wish.oddity == "unreadable":
            return StoredBehaviours(np.zeros(0, dtype=RECORD), status="unavailable")
        return StoredBehaviours(
            behaviours(["i1"] if wish.has_history else []), truncated=truncated and wish.has_history
        )


class Served:
    """A real bundle behind a real batcher: on the event loop, or in flights that end when they are told to."""

    def __init__(self, bundle: Bundle, inference: Inference, world: World) -> None:
        self.bundle, self._inference, self._world = bundle, inference, world
        self.is_healthy, self.is_slow = True, False
        self._batcher: Batcher[Scoring, ScoredRow] = Batcher(
            self._run, _hand_over, max_queue=MOST, max_rows=4, max_cost=100, name=bundle.name, observer=world.metrics,
            run_now=self._run_now if world.is_inline else None,
        )  # fmt: skip

    def submit(self, entries: Sequence[Scoring]) -> None:
        self._batcher.submit(entries)

    async def close(self) -> None:
        await self._batcher.close()

    def _run_now(self, entries: list[Scoring]) -> Sequence[ScoredRow | Exception] | None:
        return self._inference.run([entry.row for entry in entries]) if len(entries) < 3 else None

    async def _run(self, entries: list[Scoring]) -> Sequence[ScoredRow | Exception]:
        if not await self._world.flights.one():
            raise ZeroDivisionError("unforeseen")
        return self._inference.run([entry.row for entry in entries])


def _hand_over(entries: Sequence[Scoring], values: Sequence[ScoredRow | Exception]) -> None:
    for entry, value in zip(entries, values, strict=True):
        entry.scored(value)


class World:
    """A ranker, and a record of all that happens to its calls."""

    def __init__(self, loop: Clock, is_inline: bool) -> None:
        self.loop, self.is_inline = loop, is_inline
        self.calls: list[Call] = []
        self.outcomes: list[Outcome] = []
        self.flights, self.metrics = Flights(), Metrics()
        self.served = {model: Served(*_parts(model), self) for model in ("control", "treatment")}
        self.ranker = Ranker(
            Store(self.flights, self), self, Experiments(), self, self.metrics, settings_of(
                max_inflight=MOST, store_reads=2, read_timeout_ms=round(READ_SECONDS * 1000 / 3)
            ),
        )  # fmt: skip

    def find(self, model: str, version: str) -> Served | None:
        return self.served.get(model)

    def record(self, decision: Decision, outcome: Outcome) -> int:
        self.outcomes.append(outcome)
        if self.calls[int(outcome.request_id)].wish.oddity == "cannot be recorded":
            raise ZeroDivisionError("unforeseen")
        return 1

    async def take(self, step: object) -> None:
        if isinstance(step, Ask):
            for wish in step.wishes:
                self.ask(wish)
        elif isinstance(step, Leave) and self.calls:
            self.calls[step.place % len(self.calls)].abandon()
        elif isinstance(step, Advance):
            self.loop.now += step.seconds
        elif isinstance(step, Finish) and self.flights.open:
            flight = self.flights.open[step.place % len(self.flights.open)]
            flight.is_well = step.is_well
            flight.gate.set()
        elif isinstance(step, Turn):
            served = self.served[step.model]
            served.is_healthy, served.is_slow = step.health != "broken", step.health == "slow"
        await settle()
        self.check()

    def ask(self, wish: Wish) -> None:
        number = str(len(self.calls))
        candidates: list[Any] = ["i3", "i4", "new"]
        if wish.oddity == "a candidate that is no text":
            candidates[1] = []
        elif wish.oddity == "a candidate that fails":
            candidates[1] = "i13"
        call = Call(
            wish, number, number, candidates, decision_of_arm(wish.arm), deadline=self.loop.now + wish.seconds,
            recent=behaviours(["i2"]) if wish.has_history else np.zeros(0, dtype=RECORD),
        )  # fmt: skip
        self.calls.append(call)
        self.ranker.submit(call)

    def check(self) -> None:
        """No call ends twice or waits beyond its time; nothing is left where nothing is under way."""
        for call in self.calls:
            assert len(call.ended_at) <= 1
            assert call.ended_at or call.deadline > self.loop.now, "a call waits beyond its deadline"
        if not self.flights.open:
            assert all(call.ended_at for call in self.calls), "calls wait while nothing is under way"
            assert self.loop.timers() == [], "a timer is left"

    async def close(self) -> None:
        closing = asyncio.create_task(self._close())
        while not closing.done():
            for flight in self.flights.open:
                flight.gate.set()
            await settle()
        await closing
        self.check()

    async def _close(self) -> None:
        await self.ranker.close()
        await asyncio.gather(*(served.close() for served in self.served.values()))


@functools.cache
def _parts(model: str) -> tuple[Bundle, Inference]:
    made: TinyModel = {"control": CONTROL, "treatment": TREATMENT}[model]
    with tempfile.TemporaryDirectory() as root:
        bundle = load_bundle(made.write(Path(root)), max_bytes=10_000_000)
    return bundle, Inference(bundle, OnnxEngine(bundle, "cpu", threads=1), StateCache(100))


ARMS = ("treatment", "control", "interleaved")
WISHES = st.builds(
    Wish,
    arm=st.sampled_from(ARMS),
    seconds=st.sampled_from([-1.0, 0.0, 0.003, 0.05, 0.25, 2.0]),
    oddity=st.sampled_from([
        "", "", "", "unreadable", "a candidate that is no text", "a candidate that fails", "cannot be handed over",
        "cannot be recorded",
    ]),
    has_history=st.booleans(),
)  # fmt: skip
PLAIN = st.builds(Wish, st.sampled_from(ARMS), st.just(2.0), st.just(""), st.booleans())
STEPS = st.lists(
    st.one_of(
        st.builds(Ask, st.lists(st.one_of(PLAIN, WISHES), min_size=1, max_size=4).map(tuple)),
        st.builds(Ask, st.tuples(PLAIN)),
        st.builds(Leave, place=st.integers(0, 60)),
        st.builds(Advance, seconds=st.sampled_from([0.0005, 0.001, 0.01, 0.07, 0.3])),
        st.builds(Finish, place=st.integers(0, 3), is_well=st.sampled_from([True, True, True, False])),
        st.builds(
            Turn, model=st.sampled_from(["treatment", "control"]), health=st.sampled_from(["well", "slow", "broken"])
        ),
    ),
    max_size=40,
)


async def play(steps: Sequence[object], is_inline: bool) -> World:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clock)
    world = World(loop, is_inline)
    for step in steps:
        await world.take(step)
    await world.close()
    return world


@settings(max_examples=2 * settings.default.max_examples, deadline=None)
@given(steps=STEPS, is_inline=st.booleans())
def test_every_ranking_ends_exactly_once_and_in_time(steps: list[object], is_inline: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=Clock) as runner:
        patch.setattr(batcher_module, "_log", BrokenLog())
        patch.setattr(ranker_module, "_log", BrokenLog())
        world = runner.run(play(steps, is_inline))
    assert sorted(int(outcome.request_id) for outcome in world.outcomes) == list(range(len(world.calls)))
    statuses = {int(outcome.request_id): outcome.status for outcome in world.outcomes}
    for number, call in enumerate(world.calls):
        check(call, statuses[number])


def check(call: Call, status: str) -> None:
    """How a call ended fits what was asked and what happened."""
    assert len(call.ended_at) == 1
    if call.is_gone:
        assert (call.answer, status) == (None, "gone")
    elif call.answer is not None:
        assert status == ("degraded" if call.answer.degraded else "ok")
        assert call.ended_at[0] < call.deadline
        assert sorted(call.answer.item_ids) == sorted(call.item_ids)
        if not call.answer.degraded:
            assert call.answer.model == {"interleaved": "control+treatment"}.get(call.wish.arm, call.wish.arm)
        assert (call.answer.merged is not None) == (call.answer.model == "control+treatment")
    else:
        assert status == ("refused" if isinstance(call.error, DeadlineExceeded | Overloaded | NotReady) else "error")
        reasons: dict[type[Exception], Callable[[], bool]] = {
            DeadlineExceeded: lambda: call.ended_at[0] >= call.deadline,
            InferenceFailed: lambda: call.wish.oddity == "a candidate that fails",
            Overloaded: lambda: True,
            NotReady: lambda: True,
            TypeError: lambda: call.wish.oddity == "a candidate that is no text",
            ZeroDivisionError: lambda: True,
        }
        assert isinstance(call.error, RankerError | TypeError | ZeroDivisionError)
        assert reasons[type(call.error)](), call.error
