"""The one composition root: from settings to an application, every part made once and handed to whoever needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from service import __version__
from service.api import make_api
from service.behaviours import RedisBehaviourStore
from service.bundles import Bundle
from service.comparison import PageSources
from service.deployments import DeploymentLimits, Deployments
from service.errors import StartError
from service.experiments import Experiments
from service.exposures import Exposures
from service.feedback import FeedbackLog
from service.metrics import Metrics, StoreKind
from service.overrides import Overrides
from service.page import page_router
from service.prover import prove_in_process
from service.ranker import Ranker, RankLimits
from service.redis_client import Client, Confirmation, make_client
from service.redis_url import RedisUrlError
from service.registry import BundleRegistry
from service.runtime import Backend, Runtime
from service.settings import RedisSettings, Settings
from service.settings import warnings as settings_warnings
from service.states import StateCache
from service.streams import EXPOSURE_STREAM, FEEDBACK_STREAM, EventSink, EventStream
from service.supervision import supervise

_LEAST_RUN_SECONDS: Final = 2.0  # a batch is never ended before: the first runs on a GPU take long
_STORE_SLACK: Final = 3.0  # how much longer than one read a ranking waits for its behaviours, queueing included

_log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its parts are made when its lifespan begins.

    Entering the lifespan raises StartError where there is nothing to serve.
    """
    runtime = Runtime(settings, Metrics(), __version__)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with serving(runtime):
            yield

    app = make_api(runtime, lifespan=lifespan)
    app.state.runtime = runtime
    if settings.page.enabled:
        app.include_router(page_router(lambda _request: _page_sources(runtime)))
    return app


@asynccontextmanager
async def serving(runtime: Runtime) -> AsyncIterator[None]:
    """Make the backend, and let go of its parts in reverse order.

    Raises:
        StartError: there is nothing to serve.
    """
    settings, metrics = runtime.settings, runtime.metrics
    for warning in settings_warnings(settings):
        _log.warning("unsafe_setting", warning=warning)
    async with AsyncExitStack() as stack:
        deployments = _deployments(settings, metrics)
        stack.push_async_callback(deployments.close)
        bundles = ServedBundles(deployments)
        store = _store(settings.redis, metrics, bundles.served)
        stack.push_async_callback(store.close)
        sinks = await _sinks(settings, metrics, stack)
        experiments = await _experiments(settings, metrics, deployments, runtime)
        metrics.watch_arms(lambda: experiments.snapshot)
        key = _secret(settings.experiments.pseudonym_key)
        exposures = Exposures(sinks.exposures, on_exposure=metrics.exposure, pseudonym_key=key)
        ranker = Ranker(store, deployments, experiments, exposures, metrics, _rank_limits(settings))
        if not ranker.is_ready:
            raise StartError("the default model of a layer cannot be served; the lines above say why")
        ranker.start()
        stack.push_async_callback(ranker.close)
        _watch(experiments, settings.experiments.reload_ms / 1000, metrics, stack)
        _watch_bundles(deployments, settings.experiments.reload_ms / 1000, metrics, stack)

        def reload() -> None:
            deployments.try_again()
            experiments.poke()

        runtime.reload = reload
        override_secret = settings.experiments.override_secret
        runtime.backend = Backend(
            ranker=ranker,
            experiments=experiments,
            overrides=Overrides(
                override_secret.get_secret_value() if override_secret else None, metrics.override_rejected
            ),
            store=store,
            feedback=FeedbackLog(sinks.feedback, on_feedback=metrics.feedback, pseudonym_key=key),
            bundles=bundles,
        )
        # The store's gauge tells the truth, and its connections stand, before the first request.
        await asyncio.gather(store.ping(), store.read([""]))
        metrics.ready(True)
        try:
            yield
        finally:
            runtime.drain()


class ServedBundles:
    """What there is to know of the bundles being served."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    def describe(self) -> list[dict[str, object]]:
        """Return what is loaded, as schemas.BundleInfo describes it."""
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


@dataclass(frozen=True, slots=True)
class _Sinks:
    exposures: EventSink
    feedback: EventSink


class _Nowhere:
    """A sink that drops, where streams are switched off."""

    def __init__(self, on_drop: Callable[[tuple[str, ...]], None]) -> None:
        self._on_drop = on_drop

    def offer(self, _event: bytes, labels: tuple[str, ...] = ()) -> bool:
        """Drop an event."""
        self._on_drop(labels)
        return False


def _client(
    kind: StoreKind, settings: RedisSettings, timeout_ms: int, max_connections: int, metrics: Metrics
) -> Client:
    try:
        client = make_client(
            settings.address,
            timeout_seconds=timeout_ms / 1000,
            max_connections=max_connections,
            confirmation=None if kind == "reads" else Confirmation(metrics.store_unconfirmed),
            observer=metrics,
        )
    except RedisUrlError as error:
        raise StartError(f"RANKER_REDIS__URL: {error}") from error
    metrics.watch_store(kind, client.state)
    return client


def _store(settings: RedisSettings, metrics: Metrics, served: Callable[[], list[Bundle]]) -> RedisBehaviourStore:
    return RedisBehaviourStore(
        _client("reads", settings, settings.read_timeout_ms, settings.max_connections, metrics),
        _client("writes", settings, settings.write_timeout_ms, settings.max_connections, metrics),
        read_length=settings.read_length,
        max_length=settings.max_length,
        ttl_seconds=settings.ttl_s,
        observer=metrics,
        served=served,
        prefix=settings.prefix,
    )


async def _sinks(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> _Sinks:
    if not settings.streams.enabled:
        return _Sinks(_Nowhere(metrics.exposure_dropped), _Nowhere(metrics.feedback_dropped))
    client = _client("events", settings.redis, settings.streams.write_timeout_ms, 2, metrics)
    stack.push_async_callback(client.aclose)

    def stream(name: str, on_drop: Callable[[tuple[str, ...]], None]) -> EventStream:
        made = EventStream(
            client,
            settings.redis.prefix + name,
            on_drop=on_drop,
            max_queue=settings.streams.max_queue,
            max_length=settings.streams.max_length,
            max_batch=settings.streams.max_batch,
            interval_seconds=settings.streams.interval_ms / 1000,
            observer=metrics,
        )
        made.start()
        stack.push_async_callback(made.close, settings.streams.close_timeout_ms / 1000)
        metrics.watch_stream(name, made.__len__)
        return made

    return _Sinks(stream(EXPOSURE_STREAM, metrics.exposure_dropped), stream(FEEDBACK_STREAM, metrics.feedback_dropped))


def _deployments(settings: Settings, metrics: Metrics) -> Deployments:
    limits = DeploymentLimits(
        max_bundle_bytes=settings.bundles.max_bytes,
        provider=settings.inference.provider,
        threads=settings.inference.threads,
        max_queue=settings.batching.max_queue,
        max_rows=settings.batching.max_rows,
        max_batch_candidates=settings.batching.max_batch_candidates,
        warm_up_rows=settings.inference.warm_up_rows,
        max_candidates=settings.limits.max_candidates,
        deadline_seconds=settings.limits.deadline_ms / 1000,
        run_seconds=max(_LEAST_RUN_SECONDS, settings.limits.max_deadline_ms / 1000),
        budget_seconds=settings.bundles.deadline_share * settings.limits.deadline_ms / 1000,
        load_seconds=settings.bundles.load_timeout_ms / 1000,
        memory_bytes=settings.bundles.max_memory_bytes,
    )
    registry = BundleRegistry(settings.bundles.root)
    states = StateCache(settings.inference.state_cache_entries, settings.inference.state_cache_bytes)
    return Deployments(registry, states, limits, metrics, prover=prove_in_process)


async def _experiments(settings: Settings, metrics: Metrics, deployments: Deployments, runtime: Runtime) -> Experiments:
    """Return the experiments with their file accepted and its models loaded."""
    registry = BundleRegistry(settings.bundles.root)
    file = settings.experiments.file
    experiments = Experiments(
        file,
        versions=registry.versions,
        observer=metrics,
        default_model=_default_model(settings, registry) if file is None else "",
        prepare=deployments.prepare,
        now_ms=runtime.now_ms,
    )
    result = await experiments.reload()
    if experiments.snapshot is None:
        subject = f"the experiment file {file}" if file is not None else "the default model"
        raise StartError(f"{subject} cannot be served ({result}); the lines above say why")
    return experiments


def _default_model(settings: Settings, registry: BundleRegistry) -> str:
    models = registry.models()
    if settings.bundles.default_model:
        return settings.bundles.default_model
    if len(models) == 1:
        return models[0]
    found = f"holds {', '.join(models)}" if models else "holds no bundle"
    raise StartError(
        f"{settings.bundles.root} {found}: name a model in RANKER_BUNDLES__DEFAULT_MODEL, or an experiment file in "
        "RANKER_EXPERIMENTS__FILE; `python -m exporter` makes bundles"
    )


def _rank_limits(settings: Settings) -> RankLimits:
    return RankLimits(
        max_inflight=settings.limits.max_inflight,
        max_store_users=settings.batching.max_store_users,
        store_reads=settings.batching.store_reads,
        store_seconds=settings.redis.read_timeout_ms * _STORE_SLACK / 1000,
        popularity_fallback=settings.inference.popularity_fallback,
    )


def _watch(experiments: Experiments, interval_seconds: float, metrics: Metrics, stack: AsyncExitStack) -> None:
    watcher = supervise("experiments", lambda: experiments.watch(interval_seconds), metrics)
    stack.push_async_callback(watcher.cancel)


def _watch_bundles(deployments: Deployments, interval_seconds: float, metrics: Metrics, stack: AsyncExitStack) -> None:
    watcher = supervise("bundles", lambda: deployments.watch(interval_seconds), metrics)
    stack.push_async_callback(watcher.cancel)


def _page_sources(runtime: Runtime) -> PageSources:
    backend = runtime.needed()
    return PageSources(
        bundles=backend.bundles.served,
        snapshot=lambda: backend.experiments.snapshot,
        store=backend.store,
        ranker=backend.ranker,
        show_bucket=runtime.settings.experiments.show_bucket,
    )


def _secret(secret: SecretStr | None) -> bytes | None:
    return secret.get_secret_value().encode() if secret is not None else None
