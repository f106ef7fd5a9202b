"""The workers behind one port, as one of them knows them; a process of its own is the only one."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from service.errors import NotReady
from service.metrics import Metrics

_MAX_INHERITED: Final = 64  # process ids: a supervisor forgets a worker as soon as it was inherited


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The state of one worker."""

    worker: int
    process_id: int
    restarts: int  # how many times a worker of this number was started again
    status: str  # ready, loading, draining; ended until another one is there
    experiments: str | None  # digest of the experiments in force


class Workers:
    """Reports on this worker, and asks for the reports of all.

    A report has what the worker has counted, and what it has inherited: the counts of workers that have ended, and
    their process ids. So whichever worker is asked for metrics counts every process once, and no counter falls.

    Args:
        metrics: of this process.
        status: returns what this process is doing.
        experiments: returns the digest of the experiments in force.
    """

    def __init__(self, metrics: Metrics, status: Callable[[], str], experiments: Callable[[], str | None]) -> None:
        self._metrics, self._status, self._experiments = metrics, status, experiments
        self.ask: Callable[[], Awaitable[bytes]] | None = None  # the supervisor, for the reports of all
        self.ask_slow: Callable[[], Awaitable[bytes]] | None = None  # the same, for the slowest rankings of each
        self._past, self._inherited = b"{}", list[int]()
        self._others: list[bytes] = []

    def report(self) -> bytes:
        """Return how this worker is, for the supervisor to keep and to hand to the others."""
        counts = {"metrics": self._metrics.dump().decode(), "past": self._past.decode(), "inherited": self._inherited}
        return orjson.dumps({**self._state(), **counts})

    def inherit(self, content: bytes) -> None:
        """Count on from a worker that has ended; `content` is one element of the list of reports."""
        ended = orjson.loads(content)
        self._past = self._metrics.past([self._past, *_dumps(ended)])
        self._inherited = [*self._inherited, *ended["report"]["inherited"], ended["process_id"]][-_MAX_INHERITED:]
        self._metrics.worker_restarted()

    async def states(self) -> list[WorkerState]:
        """Return the state of each worker.

        Raises:
            NotReady: the supervisor does not answer.
        """
        if self.ask is None:
            return [WorkerState(0, os.getpid(), 0, **self._state())]
        return [_state(one) for one in await self._reports(self.ask)]

    async def gather(self) -> None:
        """Fetch what the other workers have counted, for `render`.

        Raises:
            NotReady: the supervisor does not answer: without the others, counters would seem to fall.
        """
        if self.ask is None:
            return
        reports = await self._reports(self.ask)
        counted = {os.getpid(), *self._inherited, *(pid for one in reports for pid in one["report"]["inherited"])}
        others = [one for one in reports if one["process_id"] not in counted]
        self._others = [self._past, *(dump for one in others for dump in self._counts(one))]

    def render(self) -> bytes:
        """Return the metrics of all workers as one, as fresh as the last `gather`; may be called from any thread."""
        return self._metrics.render(self._others)

    def render_openmetrics(self) -> bytes:
        """Return the same as `render` in the OpenMetrics format."""
        return self._metrics.render_openmetrics(self._others)

    def _counts(self, one: dict[str, Any]) -> list[bytes]:
        return _dumps(one) if one["is_alive"] else [self._metrics.past(_dumps(one))]

    def _state(self) -> dict[str, Any]:
        return {"status": self._status(), "experiments": self._experiments()}

    async def slowest(self, ask: Callable[[], Awaitable[bytes]]) -> list[list[dict[str, Any]]]:  # Any: JSON of our own
        """Return the slowest rankings of each worker.

        Raises:
            NotReady: the supervisor does not answer.
        """
        lists: list[list[dict[str, Any]]] = await _answer(ask)
        return lists

    async def _reports(self, ask: Callable[[], Awaitable[bytes]]) -> list[dict[str, Any]]:  # Any: JSON of our own
        reports: list[dict[str, Any]] = await _answer(ask)
        return reports


async def _answer(ask: Callable[[], Awaitable[bytes]]) -> Any:  # Any: JSON of our own
    try:
        return orjson.loads(await ask())
    except TimeoutError as error:
        raise NotReady("The supervisor of the workers does not answer.") from error


def _state(one: dict[str, Any]) -> WorkerState:
    report = one["report"]
    status = report["status"] if one["is_alive"] else "ended"
    return WorkerState(one["worker"], one["process_id"], one["restarts"], status, report["experiments"])


def _dumps(one: dict[str, Any]) -> list[bytes]:
    return [one["report"]["metrics"].encode(), one["report"]["past"].encode()]
