"""The workers behind one port, as one of them knows them; a process of its own is the only one."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from service.errors import NotReady


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What one worker is doing."""

    worker: int
    process_id: int
    restarts: int  # how many times a worker of this number was started again
    status: str  # ready, loading, draining; ended until another one is there
    experiments: str | None  # digest of the experiments in force


class Workers:
    """Reports on this worker, and asks for the reports of all.

    Args:
        status: returns what this process is doing.
        experiments: returns the digest of the experiments in force.
    """

    def __init__(self, status: Callable[[], str], experiments: Callable[[], str | None]) -> None:
        self._status, self._experiments = status, experiments
        self.ask: Callable[[], Awaitable[bytes]] | None = None  # the supervisor, for the reports of all

    def report(self) -> bytes:
        """Return how this worker is, for the supervisor to keep and to hand to the others."""
        return orjson.dumps({"status": self._status(), "experiments": self._experiments()})

    async def states(self) -> list[WorkerState]:
        """Return what each worker is doing.

        Raises:
            NotReady: the supervisor does not answer.
        """
        return [_state(one) for one in await self._reports()]

    async def _reports(self) -> list[dict[str, Any]]:  # Any: JSON of our own
        if self.ask is None:
            alone = {"worker": 0, "process_id": os.getpid(), "restarts": 0, "is_alive": True}
            return [alone | {"report": orjson.loads(self.report())}]
        try:
            reports: list[dict[str, Any]] = orjson.loads(await self.ask())
        except TimeoutError as error:
            raise NotReady("The supervisor of the workers does not answer.") from error
        return reports


def _state(one: dict[str, Any]) -> WorkerState:
    report = one["report"]
    status = report["status"] if one["is_alive"] else "ended"
    return WorkerState(one["worker"], one["process_id"], one["restarts"], status, report["experiments"])
