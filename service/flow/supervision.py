"""Background tasks that survive their errors.

A background task that dies stops its work silently: exposures queue up, experiment files are no longer read. A
supervised task is restarted after an error, with a growing pause, and every restart is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from service.names import TaskName

# The `task` label of the metrics. A new kind of background task adds its name here.
PAUSE_SECONDS: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # before each restart; the last one repeats
_AGAIN_SECONDS: Final = 1.0  # between two tries to cancel a task
_HEALTHY_SECONDS: Final = 30.0  # a task that ran this long starts again with the shortest pause

_log = structlog.get_logger(__name__)


class TaskObserver(Protocol):
    """Counts the faults of background tasks (service/metrics/)."""

    def task_failed(self, task: TaskName) -> None:
        """Note that a task ended by a fault and waits to be started again."""

    def task_restarted(self, task: TaskName) -> None:
        """Count a restart; the task runs again, or its owner has cancelled it."""


class _Unobserved:
    def task_failed(self, task: TaskName) -> None:
        pass

    def task_restarted(self, task: TaskName) -> None:
        pass


UNOBSERVED: Final[TaskObserver] = _Unobserved()


class Supervised:
    """A running background task. Its owner keeps it, and ends it with `finish` or `cancel`.

    Args:
        task: the kind of task, for metrics.
        run: does the work; called again after each fault.
        observer: counts.
        name: of this one, for logs.
        is_loop: whether the work goes on until the owner ends it. The return of a loop is an error too; the return of
            a job means that it is done.
        pause_seconds: before each restart; the last one repeats.
    """

    def __init__(
        self,
        task: TaskName,
        run: Callable[[], Awaitable[None]],
        observer: TaskObserver,
        *,
        name: str,
        is_loop: bool,
        pause_seconds: tuple[float, ...],
    ) -> None:
        self._kind, self._run, self._observer = task, run, observer
        self._name, self._pauses = name, pause_seconds
        self._may_end = not is_loop
        self._task = asyncio.get_running_loop().create_task(self._keep_running(), name=name)

    @property
    def is_done(self) -> bool:
        """Return whether the work has ended for good."""
        return self._task.done()

    def when_done(self, call: Callable[[Supervised], object]) -> None:
        """Call a function once the work has ended for good."""
        self._task.add_done_callback(lambda _task: call(self))

    async def finish(self, timeout_seconds: float | None = None) -> None:
        """Let a loop return; wait for the end, and cancel the task after the timeout.

        The owner first tells the loop to stop.
        """
        self._may_end = True
        await asyncio.wait({self._task}, timeout=timeout_seconds)
        await self.cancel()

    async def cancel(self) -> None:
        """End the task now; a cancellation that is lost in the code that it meets is sent again."""
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_AGAIN_SECONDS)

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        faults = 0
        while True:
            began = loop.time()
            error = await self._one_run()
            if error is None and self._may_end:
                return
            faults = faults + 1 if loop.time() - began < _HEALTHY_SECONDS else 1
            await self._pause(error, faults)

    async def _one_run(self) -> BaseException | None:
        """Run the work once; return its error, or None where it returned."""
        try:
            await self._run()
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            return error  # something that the task awaited was cancelled, not the task itself
        except Exception as error:  # the edge of a background task: it must survive every error
            return error
        return None

    async def _pause(self, error: BaseException | None, faults: int) -> None:
        self._observer.task_failed(self._kind)
        try:
            with suppress(Exception):  # writing the log must not end the task either
                _log.error("task_restarts", task=self._kind, name=self._name, faults=faults, exc_info=error)
            await asyncio.sleep(self._pauses[min(faults, len(self._pauses)) - 1])
        finally:
            self._observer.task_restarted(self._kind)


def supervise(
    task: TaskName,
    run: Callable[[], Awaitable[None]],
    observer: TaskObserver,
    *,
    name: str = "",
    pause_seconds: tuple[float, ...] = PAUSE_SECONDS,
) -> Supervised:
    """Start a loop on the running event loop and keep it running until its owner calls `finish` or `cancel`."""
    return Supervised(task, run, observer, name=name or task, is_loop=True, pause_seconds=pause_seconds)


def supervise_job(
    task: TaskName,
    run: Callable[[], Awaitable[None]],
    observer: TaskObserver,
    *,
    name: str = "",
    pause_seconds: tuple[float, ...] = PAUSE_SECONDS,
) -> Supervised:
    """Start a job on the running event loop; after a fault it is started again, until it has returned once."""
    return Supervised(task, run, observer, name=name or task, is_loop=False, pause_seconds=pause_seconds)
