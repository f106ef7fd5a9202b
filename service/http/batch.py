"""Many rankings for one caller, a few at a time: each one is answered or refused by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import orjson
import structlog

from contract.experiments.decision import Decision
from service.connection.exchange import Exchange, new_request_id
from service.errors import DeadlineExceeded, InternalError, InvalidRequest, Overloaded, RankerError, TooLarge
from service.experiments.overrides import OVERRIDE_HEADER
from service.flow.gate import Place
from service.http import rank_answer
from service.http.batch_body import BatchBody
from service.http.rank_call import call_of, decision_of
from service.http.rank_decoder import RankBody, read_rank
from service.ranking.call import AwaitedCall, UnshownCall
from service.runtime import Backend, Runtime

_SIDE: Final = 8  # rankings of one batch in progress: as many as one batch of the engine is worth
_SHARE: Final = 0.5  # of the usual deadline: a batch is kept out of the gate while other callers fill half of it
_PAUSE_SECONDS: Final = 0.01  # between two looks at a full gate
_OVERRIDE: Final = OVERRIDE_HEADER.encode()

_log = structlog.get_logger(__name__)


class Batch:
    """See the module.

    Args:
        runtime: the service's state.
        backend: what ranks.
        exchange: of the request.
        deadline: event loop time at which what is left is refused.
    """

    def __init__(self, runtime: Runtime, backend: Backend, exchange: Exchange, deadline: float) -> None:
        self._runtime, self._backend, self._exchange = runtime, backend, exchange
        self._limits, self._turns = runtime.settings.limits, runtime.admission.turns
        self._gate, self._door = runtime.admission.rankings, asyncio.Lock()
        self._deadline = deadline
        self._override = exchange.header(_OVERRIDE)
        self._show_bucket = runtime.settings.experiments.show_bucket

    async def run(self, body: BatchBody) -> list[bytes]:
        """Return the result of each ranking, as answers.BatchResult describes it.

        Raises:
            TooLarge: the rankings have too many candidates together.
        """
        wanted = [await self._read(raw) for raw in body.rankings]
        self._count([one for one in wanted if isinstance(one, RankBody)])
        kind = AwaitedCall if body.shown else UnshownCall
        results = [b""] * len(wanted)
        left = iter(enumerate(wanted))
        await asyncio.gather(*[self._work(left, results, kind) for _ in range(min(_SIDE, len(wanted)))])
        return results

    async def _read(self, raw: msgspec.Raw) -> RankBody | RankerError:
        await self._turns.take()
        with self._turns.charged():
            try:
                return read_rank(bytes(raw), self._limits)
            except RankerError as error:
                return error

    def _count(self, wanted: Sequence[RankBody]) -> None:
        count, most = sum(len(one.candidates) for one in wanted), self._limits.max_batch_candidates
        if count > most:
            raise TooLarge(f"must have at most {most} candidates together", field="rankings")
        self._exchange.count_candidates(count)

    async def _work(
        self, left: Iterator[tuple[int, RankBody | RankerError]], results: list[bytes], kind: type[AwaitedCall]
    ) -> None:
        for place, wanted in left:
            results[place] = await self._result(wanted, kind)

    async def _result(self, wanted: RankBody | RankerError, kind: type[AwaitedCall]) -> bytes:
        """Rank; an error is the result of this ranking only."""
        decision = self._runtime.undecided("error")
        request_id = new_request_id()
        try:
            now_ms = self._runtime.now_ms()
            if isinstance(wanted, RankerError):
                if isinstance(wanted, InvalidRequest) and wanted.field == "user_id":
                    decision = self._backend.experiments.decide(None, {}, now_ms)
                raise wanted
            decision = decision_of(self._backend, wanted, self._override, now_ms)
            return await self._ranked(request_id, wanted, decision, kind)
        except RankerError as error:
            return self._refused(error, request_id, decision)
        except Exception:
            _log.exception("request_failed", request_id=request_id)
            return self._refused(InternalError(), request_id, decision)

    async def _ranked(self, request_id: str, wanted: RankBody, decision: Decision, kind: type[AwaitedCall]) -> bytes:
        place = await self._enter()
        try:
            deadline = min(self._deadline, self._now() + self._limits.max_deadline_ms / 1000)
            call = call_of(kind, request_id, wanted, decision, now_ms=self._runtime.now_ms(), deadline=deadline)
            ranking = await self._backend.ranker.rank(call)
        finally:
            place.leave()
        with self._turns.charged():
            body = rank_answer.rank_body(request_id, ranking, decision.parameters)
            return b"".join([self._head(200, decision), b',"ranking":', body, b"}"])

    async def _enter(self) -> Place:
        """Wait for a place among all rankings of this process."""
        budget = _SHARE * self._limits.deadline_ms / 1000
        async with self._door:
            while not self._gate.enter(budget):
                if self._now() >= self._deadline:
                    raise Overloaded
                await asyncio.sleep(_PAUSE_SECONDS)
        if self._now() >= self._deadline:
            self._gate.leave(0.0)
            raise DeadlineExceeded("The deadline of the batch passed before this ranking began.")
        return Place(self._gate)

    def _refused(self, error: RankerError, request_id: str, decision: Decision) -> bytes:
        return self._head(error.status, decision) + b"," + error.body(request_id)[1:]

    def _head(self, status: int, decision: Decision) -> bytes:
        """Return the beginning of a result: what an answer has in its first line and its headers."""
        head = {"status": status, "bucket": decision.header(self._show_bucket)}
        return orjson.dumps(head | ({"config": decision.digest} if decision.digest else {}))[:-1]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
