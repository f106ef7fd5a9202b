"""One bundle being served: its engine proven by golden scores, its queue, and another engine when this one breaks.

A run that takes longer than any request may is ended. A bundle whose batches are slow again and again is not asked for
a while (service/inference/slowness.py); the golden rows are run in the background to see whether it still is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import structlog

from service.bundles.bundle import Bundle
from service.flow.batcher import Batcher, Entry
from service.flow.supervision import Supervised, supervise_job
from service.flow.threads import DaemonThreads, in_time
from service.inference.drift import Drift
from service.inference.engine import EngineError, OnnxEngine
from service.inference.inline import InlineRuns
from service.inference.inputs import RankRow
from service.inference.proven import EngineMaker, proven_engine
from service.inference.runs import Batch, EngineRuns
from service.inference.scorer import ScoredRow
from service.inference.slowness import SlowGuard
from service.inference.state_cache import StateCache
from service.metrics import Metrics
from service.settings.root import Settings

_REBUILD_SECONDS: Final = (0.0, 1.0, 5.0, 30.0)  # before each attempt; the last one again and again
_STALL_SECONDS: Final = 10.0
_PROBE_SECONDS: Final = (5.0, 10.0, 20.0, 40.0, 60.0)  # before each try of a slow bundle; the last one repeats
_STEADY_SECONDS: Final = 300.0  # a bundle that was fast for so long begins with the shortest pause again
_END_AGAIN_SECONDS: Final = 0.25  # between attempts to end a batch, which may begin another run
_LEAST_RUN_SECONDS: Final = 2.0  # a batch is never ended before: the first runs on a GPU take long
_CLOSE_SECONDS: Final = 2.0  # longer than a run may take, for a batch to end

_log = structlog.get_logger(__name__)


class Scoring(Entry, Protocol):
    """A request that wants scores."""

    row: RankRow

    def scored(self, value: ScoredRow | Exception) -> None:
        """Take its scores, or why there are none; must not raise."""


class Deployment:
    """One bundle being served: its engine, its queue, and whether they work.

    Args:
        bundle: verified.
        engine: proven by the bundle's golden scores.
        states: cache, shared between bundles.
        executor: the inference threads.
        settings: with the threads and batch sizes of this bundle.
        observer: counts.
        make_engine: makes another engine when this one is broken.
        rebuild_seconds: how long to wait before each attempt at that.
        probe_seconds: how long to wait before each try of a slow bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: OnnxEngine,
        states: StateCache,
        executor: Executor,
        settings: Settings,
        observer: Metrics,
        make_engine: EngineMaker = OnnxEngine,
        rebuild_seconds: Sequence[float] = _REBUILD_SECONDS,
        probe_seconds: Sequence[float] = _PROBE_SECONDS,
    ) -> None:
        self.bundle = bundle
        self._states, self._executor, self._settings, self._observer = states, executor, settings, observer
        self._make_engine, self._rebuild_seconds, self._probe_seconds = make_engine, rebuild_seconds, probe_seconds
        # No request waits longer, so a batch that takes longer is ended.
        self._run_seconds = max(_LEAST_RUN_SECONDS, settings.limits.max_deadline_ms / 1000)
        self._replaced: list[EngineRuns] = []  # of engines that were rebuilt while a run of theirs was under way
        self._use(engine)
        self._drift = Drift(bundle) if settings.inference.drift else None
        self._batch_began: float | None = None
        self._guard = SlowGuard(settings.limits.deadline_ms / 1000)
        self._rebuilding: Supervised | None = None
        self._probing: Supervised | None = None
        self._probes, self._asked_again = 0, -math.inf
        self._builder = DaemonThreads(1, "rebuild")
        self._batcher: Batcher[Scoring, ScoredRow] = Batcher(
            self._run,
            _hand_over,
            max_queue=settings.batching.max_queue,
            max_rows=settings.batching.max_rows,
            max_cost=settings.batching.max_batch_candidates,
            name=bundle.name,
            observer=observer,
            run_now=self._run_now,
        )

    @property
    def provider(self) -> str:
        """Return where the graphs truly run: `cpu` or `cuda`."""
        return self._runs.engine.provider

    @property
    def is_healthy(self) -> bool:
        """Return whether the engine answers: not broken, and no run that does not end."""
        return self._rebuilding is None and not self._is_stalled()

    @property
    def is_slow(self) -> bool:
        """Return whether batches keep taking longer than a request may: better ask another bundle."""
        return self._guard.is_open

    def start(self) -> None:
        """Start answering."""
        if self._drift is not None:
            self._observer.drift_begins(self.bundle.name, self._drift)
        self._observer.bundle_served(self.bundle.manifest.model, self.bundle.manifest.version, self.provider)

    def submit(self, entries: Sequence[Scoring]) -> None:
        """Score requests, in batches with those that wait with them; each gets its value by `scored`.

        Its value is a ScoredRow, InferenceFailed if the model failed on this request, or the batcher's Overloaded,
        DeadlineExceeded or NotReady.
        """
        self._batcher.submit(entries)

    async def close(self) -> None:
        """Answer what waits, then let go of the engine; a run that cannot be ended is left to its thread."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._batcher.close(), self._run_seconds + _CLOSE_SECONDS)
        if any(runs.began is not None for runs in (*self._replaced, self._runs)):
            _log.error("run_abandoned", bundle=self.bundle.name)
        for task in (self._rebuilding, self._probing):
            if task is not None:
                await task.cancel()
        self._observer.bundle_dropped(self.bundle.manifest.model, self.bundle.manifest.version, self.provider)
        if self._drift is not None:
            self._observer.drift_ends(self.bundle.name, self._drift)
        self._runs.engine.close()
        self._builder.shutdown()

    def _use(self, engine: OnnxEngine) -> None:
        self._runs = EngineRuns(self.bundle, engine, self._states, self._observer)
        self._inline = InlineRuns(engine.provider == "cpu")

    def _is_stalled(self) -> bool:
        began = self._batch_began
        return began is not None and asyncio.get_running_loop().time() - began > _STALL_SECONDS

    def _run_now(self, entries: list[Scoring]) -> Sequence[ScoredRow | Exception] | None:
        """Score a small batch on the event loop: a hop to a thread and back costs more than the run."""
        if not self._inline.fits(len(entries)) or self._rebuilding is not None:
            return None
        with self._inline.watched(self._runs.engine):
            batch = self._runs.infer([entry.row for entry in entries])
        if batch.was_ended:  # it is not as quick as it was: the thread tries again, and has more time
            _log.warning("run_moved_to_thread", bundle=self.bundle.name, rows=len(entries))
            self._inline.stop()
            return None
        self._inline.note(len(entries), batch.seconds)
        self._conclude(entries, batch)
        return batch.results

    async def _run(self, entries: list[Scoring]) -> Sequence[ScoredRow | Exception]:
        loop = asyncio.get_running_loop()
        self._batch_began = loop.time()
        self._ending = loop.call_later(self._run_seconds, self._end_late_run)
        try:
            infer = partial(self._runs.infer, [entry.row for entry in entries], in_thread=True)
            batch = await loop.run_in_executor(self._executor, infer)
        finally:
            self._batch_began = None
            self._ending.cancel()
        if batch.was_ended:
            _log.error("run_ended", bundle=self.bundle.name, rows=len(entries), limit_s=self._run_seconds)
            self._observer.run_ended(self.bundle.name)
            self._observer.engine_failed(self.bundle.name)
        # Not the time that passed: a thread also waits for the event loop to leave it the interpreter, and a bundle
        # whose batches seem slow for that reason would stay in the threads.
        self._inline.note(len(entries), batch.busy_seconds)
        self._conclude(entries, batch)
        return batch.results

    def _conclude(self, entries: Sequence[Scoring], batch: Batch) -> None:
        """Draw the conclusions of a batch: count it, build another engine, or avoid the bundle for a while."""
        if self._drift is not None:
            self._drift.note([entry.row for entry in entries], batch.results)
        if not batch.works and self._rebuilding is None:
            self._rebuilding = supervise_job(
                "engine_rebuild", self._rebuild, self._observer, name=f"rebuild-{self.bundle.name}"
            )
        if self._guard.note(batch.seconds):
            self._avoid(batch.seconds)

    def _end_late_run(self) -> None:
        """End a batch that has taken longer than any request waits; called again until the batch is over."""
        self._runs.end_if_late(self._run_seconds)
        self._ending = asyncio.get_running_loop().call_later(_END_AGAIN_SECONDS, self._end_late_run)

    def _avoid(self, seconds: float) -> None:
        """Let requests go to another bundle until this one is fast again."""
        name = self.bundle.name
        _log.error("bundle_slow", bundle=name, batch_s=round(seconds, 3), limit_s=self._guard.limit_seconds)
        self._observer.bundle_slow(name, True)
        self._probing = supervise_job("bundle_probe", self._probe, self._observer, name=f"probe-{name}")

    async def _probe(self) -> None:
        """Run the golden rows now and then until they are fast.

        A bundle that is slow on live batches only is asked again after each pause, and the pauses grow: what one user
        sends must not keep it away from all others for good.
        """
        loop = asyncio.get_running_loop()
        if loop.time() - self._asked_again > _STEADY_SECONDS:
            self._probes = 0
        while True:
            await asyncio.sleep(self._probe_seconds[min(self._probes, len(self._probe_seconds) - 1)])
            self._probes += 1
            ending = loop.call_later(self._run_seconds, self._runs.engine.end_runs)
            try:
                seconds = await loop.run_in_executor(self._executor, self._runs.golden_seconds)
            finally:
                ending.cancel()
            if seconds <= self._guard.limit_seconds:
                break
        self._asked_again = loop.time()
        self._guard.close()
        self._observer.bundle_slow(self.bundle.name, False)
        _log.warning("bundle_asked_again", bundle=self.bundle.name, golden_s=round(seconds, 3))

    async def _rebuild(self) -> None:
        """Make another engine from the bytes in memory, until one works; `auto` may end on the CPU."""
        attempt = 0
        provider = self._settings.inference.provider
        while True:
            await asyncio.sleep(self._rebuild_seconds[min(attempt, len(self._rebuild_seconds) - 1)])
            attempt += 1
            try:
                engine = await in_time(
                    self._builder, self._settings.bundles.load_timeout_ms / 1000,
                    proven_engine, self.bundle, self._settings.inference, self._make_engine, provider,
                )  # fmt: skip
            except (EngineError, TimeoutError) as error:
                _log.error("engine_rebuild_failed", bundle=self.bundle.name, attempt=attempt, error=str(error))
                provider = "cpu" if provider == "auto" else provider
                continue
            manifest = self.bundle.manifest
            self._observer.bundle_dropped(manifest.model, manifest.version, self.provider)
            self._runs.engine.close()
            self._replaced = [runs for runs in (*self._replaced, self._runs) if runs.began is not None]
            self._use(engine)
            self._observer.bundle_served(manifest.model, manifest.version, self.provider)
            self._observer.bundle_slow(self.bundle.name, self.is_slow)
            _log.warning("engine_rebuilt", bundle=self.bundle.name, provider=self.provider, attempt=attempt)
            self._rebuilding = None
            return


def _hand_over(entries: Sequence[Scoring], values: Sequence[ScoredRow | Exception]) -> None:
    for entry, value in zip(entries, values, strict=True):
        entry.scored(value)
