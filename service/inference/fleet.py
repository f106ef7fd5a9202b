"""All bundles being served: loaded off the serving path, released after their last answer.

A swap is one reference. On any failure what was served goes on being served.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from contract.experiments.problems import ExperimentsError
from service.bundles.bundle import Bundle
from service.bundles.refusals import Model
from service.bundles.registry import BundleRegistry
from service.flow.supervision import Supervised, supervise_job
from service.flow.threads import DaemonThreads
from service.inference.deployment import Deployment
from service.inference.engine import OnnxEngine
from service.inference.loading import Loader, NotServable, Prover
from service.inference.proven import EngineMaker
from service.inference.state_cache import StateCache
from service.metrics import Metrics
from service.settings.root import Settings

__all__ = ["Deployments", "Model"]

_log = structlog.get_logger(__name__)


class Deployments:
    """All bundles being served, by model and version.

    Args:
        registry: what there is on disk.
        states: cache, shared between bundles.
        settings: how bundles are loaded and run.
        observer: counts.
        inference_threads: batches that may run at once, of all bundles.
        release_seconds: how long a bundle that no experiment names is kept, for requests that were assigned before.
        make_engine: makes engines.
        prover: tries a bundle in a process of its own before it is loaded here; None loads it without.
    """

    def __init__(
        self,
        registry: BundleRegistry,
        states: StateCache,
        settings: Settings,
        observer: Metrics,
        *,
        inference_threads: int = 2,
        release_seconds: float = 5.0,
        make_engine: EngineMaker = OnnxEngine,
        prover: Prover | None = None,
    ) -> None:
        self._states, self._observer = states, observer
        self._loader = Loader(registry, settings, make_engine, prover)
        self._make_engine, self._release_seconds = make_engine, release_seconds
        self._executor = DaemonThreads(inference_threads, "inference")
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

    def targets_of(self, model: str, version: str) -> Mapping[str, float] | None:
        """Return the weight of each target of a bundle; None if the bundle is not served."""
        found = self.find(model, version)
        return None if found is None else found.bundle.manifest.targets

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
                await _close(loaded)
                raise ExperimentsError(problems)
            self._live = {**self._live, **loaded}
            self._wanted = wanted
            if set(self._live) - wanted:
                self._release(self._release_later)

    async def watch(self, interval_seconds: float) -> None:
        """Load bundles that were left out at the start, once their files change; runs until it is cancelled.

        A bundle whose mapped table was edited in place is loaded again, and withdrawn if its digest no longer fits.
        """
        while True:
            await asyncio.sleep(interval_seconds)
            async with self._preparing:
                await self._load_again(await self._changed())
                missing = sorted(self._wanted - set(self._live))
                loaded, _ = await self._load(missing)
                self._live = {**self._live, **loaded}

    def try_again(self) -> None:
        """Forget what was refused (SIGHUP): the next look tries every bundle."""
        self._loader.refusals.forget()

    async def close(self) -> None:
        """Answer what waits for every bundle, then let go of all of them."""
        self._closing.set()
        await asyncio.gather(*[job.finish() for job in self._releasing])
        await asyncio.gather(*(deployment.close() for deployment in self._live.values()))
        self._live = {}
        self._loader.close()
        self._executor.shutdown()

    async def _load(self, models: Sequence[Model]) -> tuple[dict[Model, Deployment], list[str]]:
        loaded: dict[Model, Deployment] = {}
        problems: list[str] = []
        try:
            for model in models:
                try:
                    loaded[model] = await self._load_one(model)
                except NotServable as error:
                    if error.was_tried:
                        self._observer.bundle_loaded("untrusted" if error.is_untrusted else "failed")
                    problems.append(f"{model[0]}@{model[1]} cannot be served: {error}")
        except BaseException:  # cancelled: the process ends, or another file is to be loaded
            await _close(loaded)
            raise
        return loaded, problems

    async def _changed(self) -> list[Model]:
        changed = await self._loader.changed({model: one.bundle for model, one in self._live.items()})
        for model in changed:
            _log.error("bundle_table_changed", bundle=self._live[model].bundle.name)
        return changed

    async def _load_again(self, changed: Sequence[Model]) -> None:
        """Replace bundles by what their files are now; what is refused is withdrawn."""
        loaded, _ = await self._load(changed)
        replaced = {model: self._live[model] for model in changed}
        self._live = {**{model: one for model, one in self._live.items() if model not in replaced}, **loaded}
        if replaced:
            self._release(lambda: _close(replaced))

    def _release(self, release: Callable[[], Awaitable[None]]) -> None:
        """Let go of bundles in the background; `close` waits for it."""
        job = supervise_job("bundle_release", release, self._observer)
        self._releasing.add(job)
        job.when_done(self._released)

    def _released(self, job: Supervised) -> None:
        """Collect released objects when the job no longer refers to them: by itself, the collector takes hours."""
        self._releasing.discard(job)
        asyncio.get_running_loop().call_soon(gc.collect)

    async def _load_one(self, model: Model) -> Deployment:
        made = await self._loader.load(model)
        deployment = Deployment(
            made.bundle, made.engine, self._states, self._executor, made.settings, self._observer, self._make_engine
        )
        deployment.start()
        self._observer.bundle_loaded("ok")
        _log.info("bundle_loaded", bundle=made.bundle.name, digest=made.bundle.digest, provider=made.engine.provider)
        return deployment

    async def _release_later(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._release_seconds):
                await self._closing.wait()
        async with self._preparing:
            released = [deployment for model, deployment in self._live.items() if model not in self._wanted]
            self._live = {model: one for model, one in self._live.items() if model in self._wanted}
        for deployment in released:
            await deployment.close()
            _log.info("bundle_released", bundle=deployment.bundle.name)


class ServedBundles:
    """Facts about the served bundles."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    def describe(self) -> list[dict[str, object]]:
        """Return what is loaded, as answers.BundleInfo describes it."""
        return [
            {
                "name": one.bundle.name,
                "model": one.bundle.manifest.model,
                "version": one.bundle.manifest.version,
                "digest": one.bundle.digest,
                "provider": one.provider,
                "is_healthy": one.is_healthy,
                "items": one.bundle.manifest.item_count,
                "length": one.bundle.manifest.sequence.length,
            }
            for _, one in sorted(self._deployments.live.items())
        ]

    def served(self) -> list[Bundle]:
        """Return the bundles themselves."""
        return [one.bundle for _, one in sorted(self._deployments.live.items())]


async def _close(deployments: Mapping[Model, Deployment]) -> None:
    for deployment in deployments.values():
        await deployment.close()
