"""Metrics of the process: background tasks, the log, garbage collection."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from service.metrics.buckets import LATENCY
from service.metrics.families import Families
from service.names import TaskName


class ProcessMetrics:
    """Counts faults of background tasks, lost log lines and pauses.

    Args:
        families: where they are declared.
    """

    def __init__(self, families: Families) -> None:
        tasks: tuple[str, ...] = get_args(TaskName)
        self._restarts = families.counter(
            "ranker_task_restarts_total", "Background tasks started again after a fault.", task=tasks
        )
        self._tasks_down = families.gauge(
            "ranker_tasks_down", "Background tasks that wait to be started again.", "sum", task=tasks
        )
        self._log_dropped = families.counter("ranker_log_lines_dropped_total", "Log lines that were not read in time.")

        pauses = families.histogram(
            "ranker_gc_pause_seconds", "Time that a garbage collection stopped the process.", LATENCY,
            generation=("0", "1", "2"),
        )  # fmt: skip
        self._pauses = [pauses.of(generation) for generation in ("0", "1", "2")]
        self._spans = families.shared_counter(
            "ranker_spans_total",
            "Spans of traced requests, by whether the collector took them.",
            result=("exported", "failed"),
        )
        self._untraced = families.counter(
            "ranker_traces_over_limit_total", "Requests not traced because too many others of the same second were."
        ).of()
        self._loop_waits = families.histogram(
            "ranker_event_loop_wait_seconds", "Time that ready work waited for the event loop.", LATENCY
        ).of()
        workers = families.gauge("ranker_workers", "Processes that serve the port.", "sum")
        workers.of().value = 1  # this one
        self._wanted = families.gauge("ranker_workers_wanted", "Processes that the settings ask for.", "max")
        self._worker_restarts = families.counter("ranker_worker_restarts_total", "Workers started again.")

    def workers_wanted(self, count: int) -> None:
        """Note how many processes the settings ask for."""
        self._wanted.of().value = count

    def worker_restarted(self) -> None:
        """Count that this worker was started in place of another one."""
        self._worker_restarts.of().inc()

    def task_failed(self, task: TaskName) -> None:
        """Note that a background task ended by a fault and waits to be started again."""
        self._tasks_down.of(task).value += 1

    def task_restarted(self, task: TaskName) -> None:
        """Count a restart of a background task."""
        self._tasks_down.of(task).value -= 1
        self._restarts.of(task).inc()

    def spans_sent(self, result: str, count: int) -> None:
        """Count spans that a collector took (`exported`) or did not (`failed`); from any thread."""
        self._spans.of(result).inc(count)

    def trace_over_limit(self) -> None:
        """Count a request that was not traced because too many others of the same second were."""
        self._untraced.inc()

    def watch_log(self, dropped: Callable[[], int]) -> None:
        """Ask at each scrape how many log lines were dropped: counting while a line is written could deadlock."""
        self._log_dropped.watch((), dropped)

    def garbage_collected(self, generation: int, seconds: float) -> None:
        """Observe a garbage collection; in any thread, but never in two at once."""
        self._pauses[generation].observe(seconds)

    def loop_waited(self, seconds: float) -> None:
        """Observe how long ready work waited for the event loop."""
        self._loop_waits.observe(seconds)
