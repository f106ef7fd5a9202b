"""One bundle being served: its engine proven by golden scores, its queue, and another engine when this one breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from service.batcher import Answer, Batcher, BatchObserver
from service.bundles import Bundle
from service.engine import EngineError, OnnxEngine, ProviderChoice
from service.inference import Inference, RankRow, ScoredRow
from service.states import StateCache
from service.supervision import Supervised, supervise_job

_REBUILD_SECONDS: Final = (0.0, 1.0, 5.0, 30.0)  # before each attempt; the last one again and again
_STALL_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class DeploymentObserver(BatchObserver, Protocol):
    """Where bundles and their engines are counted (service/metrics.py)."""

    def bundle_loaded(self, result: str) -> None:
        """Count a loading: `ok` or `failed`."""

    def bundle_served(self, model: str, version: str, provider: str) -> None:
        """Note a bundle that is loaded, and where it truly runs."""

    def bundle_dropped(self, model: str, version: str, provider: str) -> None:
        """Note a bundle that is not loaded any more."""

    def engine_failed(self, bundle: str) -> None:
        """Count a run of a graph that failed."""


@dataclass(frozen=True, slots=True)
class DeploymentLimits:
    """How bundles are loaded and run; see the settings of the same names."""

    max_bundle_bytes: int = 2**31
    provider: ProviderChoice = "auto"
    threads: int = 0
    max_queue: int = 256
    max_rows: int = 64
    max_batch_candidates: int = 20_000
    warm_up_rows: tuple[int, ...] = (1, 2, 8, 64)
    max_candidates: int = 1  # of a request; a bundle that was made for fewer is refused


EngineMaker = Callable[[Bundle, ProviderChoice, int], OnnxEngine]


class Deployment:
    """One bundle being served: its engine, its queue, and whether they work.

    Args:
        bundle: verified.
        engine: proven by the bundle's golden scores.
        states: cache, shared between bundles.
        executor: the inference threads.
        limits: of the queue and of a batch.
        observer: counts.
        make_engine: makes another engine when this one is broken.
        rebuild_seconds: how long to wait before each attempt at that.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: OnnxEngine,
        states: StateCache,
        executor: ThreadPoolExecutor,
        limits: DeploymentLimits,
        observer: DeploymentObserver,
        make_engine: EngineMaker = OnnxEngine,
        rebuild_seconds: Sequence[float] = _REBUILD_SECONDS,
    ) -> None:
        self.bundle = bundle
        self._states, self._executor, self._limits, self._observer = states, executor, limits, observer
        self._make_engine, self._rebuild_seconds = make_engine, rebuild_seconds
        self._use(engine)
        self._batch_began: float | None = None
        self._rebuilding: Supervised | None = None
        self._batcher: Batcher[RankRow, ScoredRow] = Batcher(
            self._run,
            max_queue=limits.max_queue,
            max_rows=limits.max_rows,
            max_cost=limits.max_batch_candidates,
            name=bundle.name,
            observer=observer,
        )

    @property
    def provider(self) -> str:
        """Return where the graphs truly run: `cpu` or `cuda`."""
        return self._engine.provider

    @property
    def is_healthy(self) -> bool:
        """Return whether the engine answers: not broken, and no run that does not end."""
        return self._rebuilding is None and not self._is_stalled()

    def start(self) -> None:
        """Start answering; needs a running event loop."""
        self._batcher.start()
        self._observer.bundle_served(self.bundle.manifest.model, self.bundle.manifest.version, self.provider)

    async def score(self, row: RankRow, deadline: float) -> Answer[ScoredRow]:
        """Score one request, in a batch with those that wait with it.

        Args:
            row: the request.
            deadline: event loop time after which nobody needs the answer.

        Raises:
            Overloaded, DeadlineExceeded, NotReady: see Batcher.submit.
            InferenceFailed: the model failed on this request.
        """
        return await self._batcher.submit(row, cost=max(1, len(row.candidates)), deadline=deadline)

    async def close(self) -> None:
        """Answer what waits, then let go of the engine."""
        await self._batcher.close()
        if self._rebuilding is not None:
            await self._rebuilding.cancel()
        self._observer.bundle_dropped(self.bundle.manifest.model, self.bundle.manifest.version, self.provider)
        self._engine.close()

    def _use(self, engine: OnnxEngine) -> None:
        self._engine = engine
        self._inference = Inference(self.bundle, engine, self._states, self._observer.engine_failed)

    def _is_stalled(self) -> bool:
        began = self._batch_began
        return began is not None and asyncio.get_running_loop().time() - began > _STALL_SECONDS

    async def _run(self, rows: list[RankRow]) -> Sequence[ScoredRow | Exception]:
        loop = asyncio.get_running_loop()
        self._batch_began = loop.time()
        try:
            results, works = await loop.run_in_executor(self._executor, self._infer, rows)
        finally:
            self._batch_began = None
        if not works and self._rebuilding is None:
            self._rebuilding = supervise_job(
                "engine_rebuild", self._rebuild, self._observer, name=f"rebuild-{self.bundle.name}"
            )
        return results

    def _infer(self, rows: list[RankRow]) -> tuple[list[ScoredRow | Exception], bool]:
        """Score a batch; where the engine failed on a row, its golden scores tell whether the row or it is at fault."""
        results = self._inference.run(rows)
        if not any(isinstance(result, Exception) and isinstance(result.__cause__, EngineError) for result in results):
            return results, True
        try:
            self._engine.verify_golden()
        except EngineError as error:
            _log.error("engine_broken", bundle=self.bundle.name, provider=self.provider, error=str(error))
            return results, False
        return results, True

    async def _rebuild(self) -> None:
        """Make another engine from the bytes in memory, until one works; `auto` may end on the CPU."""
        attempt = 0
        provider = self._limits.provider
        while True:
            await asyncio.sleep(self._rebuild_seconds[min(attempt, len(self._rebuild_seconds) - 1)])
            attempt += 1
            try:
                engine = await asyncio.to_thread(prove, self.bundle, self._limits, self._make_engine, provider)
            except EngineError as error:
                _log.error("engine_rebuild_failed", bundle=self.bundle.name, attempt=attempt, error=str(error))
                provider = "cpu" if provider == "auto" else provider
                continue
            manifest = self.bundle.manifest
            self._observer.bundle_dropped(manifest.model, manifest.version, self.provider)
            self._engine.close()
            self._use(engine)
            self._observer.bundle_served(manifest.model, manifest.version, self.provider)
            _log.warning("engine_rebuilt", bundle=self.bundle.name, provider=self.provider, attempt=attempt)
            self._rebuilding = None
            return


def prove(
    bundle: Bundle, limits: DeploymentLimits, make_engine: EngineMaker, provider: ProviderChoice | None = None
) -> OnnxEngine:
    """Return an engine that has given the bundle's golden scores on its provider, and has run every batch size.

    Raises:
        EngineError: it does not, or cannot be made.
    """
    engine = make_engine(bundle, provider or limits.provider, limits.threads)
    try:
        engine.verify_golden()
        engine.warm_up(limits.warm_up_rows)
    except EngineError:
        engine.close()
        raise
    return engine
