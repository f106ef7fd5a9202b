"""All bundles being served: loaded off the serving path, released after their last answer.

A swap is one reference. On any failure what was served goes on being served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from contract.experiments import ExperimentsError
from service.bundles import Bundle, BundleError, load_bundle
from service.deployment import Deployment, DeploymentLimits, DeploymentObserver, EngineMaker, prove
from service.engine import EngineError, OnnxEngine
from service.registry import BundleRegistry
from service.states import StateCache
from service.supervision import Supervised, supervise_job

__all__ = ["DeploymentLimits", "Deployments", "Model"]

Model = tuple[str, str]  # name, version

_log = structlog.get_logger(__name__)


class Deployments:
    """All bundles being served, by model and version.

    Args:
        registry: what there is on disk.
        states: cache, shared between bundles.
        limits: how bundles are loaded and run.
        observer: counts.
        inference_threads: batches that may run at once, of all bundles.
        release_seconds: how long a bundle that no experiment names is kept, for requests that were assigned before.
        make_engine: makes engines.
    """

    def __init__(
        self,
        registry: BundleRegistry,
        states: StateCache,
        limits: DeploymentLimits,
        observer: DeploymentObserver,
        *,
        inference_threads: int = 2,
        release_seconds: float = 5.0,
        make_engine: EngineMaker = OnnxEngine,
    ) -> None:
        self._registry, self._states, self._limits, self._observer = registry, states, limits, observer
        self._make_engine, self._release_seconds = make_engine, release_seconds
        self._executor = ThreadPoolExecutor(inference_threads, thread_name_prefix="inference")
        self._live: Mapping[Model, Deployment] = {}
        self._wanted: frozenset[Model] = frozenset()
        self._preparing = asyncio.Lock()
        self._releasing: set[Supervised] = set()
        self._closing = asyncio.Event()

    @property
    def live(self) -> Mapping[Model, Deployment]:
        """Return what is being served; never changes, a swap makes another."""
        return self._live

    def find(self, model: str, version: str) -> Deployment | None:
        """Return the deployment of a bundle, or None where it is not served."""
        return self._live.get((model, version))

    async def prepare(self, wanted: frozenset[Model]) -> None:
        """Serve these bundles too; those that are not named any more are released a little later.

        The first time, a bundle that fails is left out as long as another one works: its arm is then served by the
        layer's default, marked, which is better than no service. Later, nothing changes unless all of them work.

        Raises:
            ExperimentsError: one cannot be served; all that was served still is.
        """
        async with self._preparing:
            loaded, problems = await self._load(sorted(wanted - set(self._live)))
            first = not self._live
            if problems and not (first and loaded):
                for deployment in loaded.values():
                    await deployment.close()
                raise ExperimentsError(problems)
            self._live = {**self._live, **loaded}
            self._wanted = wanted
            if set(self._live) - wanted:
                job = supervise_job("bundle_release", self._release_later, self._observer)
                self._releasing.add(job)
                job.when_done(self._releasing.discard)

    async def close(self) -> None:
        """Answer what waits for every bundle, then let go of all of them."""
        self._closing.set()
        await asyncio.gather(*[job.finish() for job in self._releasing])
        await asyncio.gather(*(deployment.close() for deployment in self._live.values()))
        self._live = {}
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _load(self, models: Sequence[Model]) -> tuple[dict[Model, Deployment], list[str]]:
        loaded: dict[Model, Deployment] = {}
        problems: list[str] = []
        for model in models:
            try:
                bundle, engine = await asyncio.to_thread(self._load_one, *model)
            except (BundleError, EngineError) as error:
                _log.error("bundle_refused", model=model[0], version=model[1], error=str(error))
                self._observer.bundle_loaded("failed")
                problems.append(f"{model[0]}@{model[1]} cannot be served: {error}")
                continue
            loaded[model] = Deployment(
                bundle, engine, self._states, self._executor, self._limits, self._observer, self._make_engine
            )
            loaded[model].start()
            self._observer.bundle_loaded("ok")
            _log.info("bundle_loaded", bundle=bundle.name, digest=bundle.digest, provider=engine.provider)
        return loaded, problems

    def _load_one(self, model: str, version: str) -> tuple[Bundle, OnnxEngine]:
        directory = self._registry.directory(model, version)
        if directory is None:
            raise BundleError("this is no name of a bundle")
        bundle = load_bundle(directory, max_bytes=self._limits.max_bundle_bytes)
        promised = bundle.manifest.max_candidates
        if promised < self._limits.max_candidates:
            raise BundleError(f"made for {promised} candidates, a request may hold {self._limits.max_candidates}")
        return bundle, prove(bundle, self._limits, self._make_engine)

    async def _release_later(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), self._release_seconds)
        async with self._preparing:
            released = [deployment for model, deployment in self._live.items() if model not in self._wanted]
            self._live = {model: one for model, one in self._live.items() if model in self._wanted}
        for deployment in released:
            await deployment.close()
            _log.info("bundle_released", bundle=deployment.bundle.name)
