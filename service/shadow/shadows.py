"""All shadows of a service: a queue and a process for each, made when the first ranking asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from contract.experiments.shadows import ShadowBundle
from service.bundles.registry import BundleRegistry
from service.metrics import Metrics
from service.settings.root import Settings
from service.shadow.link import Link, ShadowFailed
from service.shadow.messages import Start
from service.shadow.queue import Ranked, ShadowQueue

Model = tuple[str, str]  # name, version


class Shadows:
    """Takes answered rankings; never waits, never raises, and changes no answer.

    Args:
        settings: of bundles, inference and shadows.
        registry: where the bundles are.
        observer: counts.
        named: the shadows that the file in force names.
        is_busy: whether the service has too much to do.
    """

    def __init__(
        self,
        settings: Settings,
        registry: BundleRegistry,
        observer: Metrics,
        named: Callable[[], frozenset[Model]],
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings, self._registry, self._observer = settings, registry, observer
        self._named, self._is_busy = named, is_busy
        self._queues: dict[Model, ShadowQueue] = {}

    def offer(self, shadow: ShadowBundle, request_id: str, make: Callable[[], Ranked]) -> None:
        """Take a ranking if it is in the sample; drop it if the service is busy.

        Args:
            shadow: of the user's arm.
            request_id: decides whether the ranking is in the sample.
            make: makes the ranking, if it is taken.
        """
        if not shadow.takes(request_id):
            return
        ranked = make()
        if self._is_busy():
            self._observer.shadow_dropped(ranked.served, f"{shadow.model}@{shadow.version}", "busy")
            return
        self._queue_of(shadow.model, shadow.version).offer(ranked)

    def queue(self, model: str, version: str) -> ShadowQueue | None:
        """Return the queue of a shadow; None before its first ranking."""
        return self._queues.get((model, version))

    async def close(self) -> None:
        """End all processes."""
        await asyncio.gather(*(queue.close() for queue in self._queues.values()))

    def _queue_of(self, model: str, version: str) -> ShadowQueue:
        queue = self._queues.get((model, version))
        if queue is None:
            chosen = self._settings.shadow
            queue = self._queues[model, version] = ShadowQueue(
                f"{model}@{version}",
                lambda: self._start(model, version),
                lambda: (model, version) in self._named(),
                self._observer,
                size=chosen.queue,
                seconds=chosen.deadline_ms / 1000,
            )
        return queue

    async def _start(self, model: str, version: str) -> Link:
        directory = self._registry.directory(model, version)
        if directory is None:
            raise ShadowFailed("this is not a name of a bundle")
        bundles, inference = self._settings.bundles, self._settings.inference
        start = Start(
            directory=str(directory.absolute()),
            max_bundle_bytes=bundles.max_bytes,
            map_tables=bundles.map_tables,
            provider=inference.provider,
            threads=inference.threads,
            memory_bytes=bundles.max_memory_bytes,
            signers=str(bundles.signers.absolute()) if bundles.signers is not None else None,
        )
        return await Link.start(start, bundles.load_timeout_ms / 1000)
