"""The runs of one engine: a batch scored, its outcome, and the end of one that takes too long."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import NamedTuple

import structlog

from service.bundles.bundle import Bundle
from service.inference.engine import EngineError, OnnxEngine
from service.inference.inputs import RankRow
from service.inference.scorer import Inference, ScoredRow
from service.inference.state_cache import StateCache
from service.metrics import Metrics

_log = structlog.get_logger(__name__)


class Batch(NamedTuple):
    """The outcome of a batch."""

    results: list[ScoredRow | Exception]
    seconds: float  # that it took
    busy_seconds: float  # of them, the thread had the processor; the same if only the event loop's thread ran it
    works: bool  # whether the engine does
    was_ended: bool  # because it took too long


class EngineRuns:
    """The runs of one engine.

    Attributes:
        engine: scores the batches.
        began: when the run under way began, by the monotonic clock; None between runs.
    """

    def __init__(self, bundle: Bundle, engine: OnnxEngine, states: StateCache, observer: Metrics) -> None:
        self.engine = engine
        self.began: float | None = None
        self._name = bundle.name
        self._inference = Inference(bundle, engine, states, observer.engine_failed, observer.scores_not_finite)

    def infer(self, rows: list[RankRow], *, in_thread: bool = False) -> Batch:
        """Score a batch; where the engine failed on a row, its golden scores tell whether the row or it is at fault.

        Args:
            rows: of the batch.
            in_thread: whether it runs beside the event loop, which may keep the interpreter from it.
        """
        self.began = began = time.monotonic()
        busy_before = time.thread_time() if in_thread else 0.0
        try:
            results = self._inference.run(rows)
            seconds = time.monotonic() - began
            busy_seconds = time.thread_time() - busy_before if in_thread else seconds
            failures = [result for result in results if isinstance(result, Exception)]
            faults = [failure.__cause__ for failure in failures if isinstance(failure.__cause__, EngineError)]
            was_ended = any(fault.was_ended for fault in faults)
            works = not faults or was_ended or self._is_sound()
            return Batch(results, seconds, busy_seconds, works, was_ended)
        finally:
            self.began = None

    def golden_seconds(self) -> float:
        """Return how long the golden rows take."""
        began = time.monotonic()
        with suppress(EngineError):
            self.engine.verify_golden()
        return time.monotonic() - began

    def end_if_late(self, seconds: float) -> None:
        """End the run under way if it has taken so long; from any thread."""
        began = self.began  # None while the batch waits for a thread
        if began is not None and time.monotonic() - began >= seconds:
            self.engine.end_runs()

    def _is_sound(self) -> bool:
        try:
            self.engine.verify_golden()
        except EngineError as error:
            _log.error("engine_broken", bundle=self._name, provider=self.engine.provider, error=str(error))
            return False
        return True
