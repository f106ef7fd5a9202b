"""The composition root: from settings to an application; every part is created once and passed to its users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from contract.redis_url.address import RedisAddress, RedisUrlError
from service import __version__
from service.bundles.bundle import Bundle
from service.bundles.registry import BundleRegistry
from service.errors import StartError
from service.experiments.exposures import Exposures
from service.experiments.feedback import FeedbackLog
from service.experiments.live import Experiments
from service.experiments.overrides import Overrides
from service.experiments.shared_state import SharedState
from service.experiments.state_stores import STATE_KEY, FileStateStore, RedisStateStore, StateStore
from service.flow.supervision import supervise
from service.http.api import make_api
from service.inference.fleet import DeploymentLimits, Deployments, ServedBundles
from service.inference.prover import prove_in_process
from service.inference.state_cache import StateCache
from service.log import access_log
from service.metrics import Metrics
from service.names import StoreKind
from service.output.line_writer import LineWriter
from service.page.comparison import PageSources
from service.page.routes import page_router
from service.ranking.ranker import Ranker
from service.ranking.ranking_log import RankingLog
from service.redis.client import Client, Confirmation, make_client
from service.redis.watch import Instance, RedisWatch, ranking_log_bytes
from service.runtime import Backend, Runtime
from service.settings.root import Settings
from service.settings.shown import warnings as settings_warnings
from service.store.behaviours import RedisBehaviourStore
from service.store.sinks import Sinks, no_sinks, open_sinks

_KNOWN_BYTES: Final = 2**24  # values of some thousand users; they are known only where their states are kept too
_STREAM_CONNECTIONS: Final = 4  # three flushers and the replay

_log = structlog.get_logger(__name__)


def create_app(settings: Settings, log: LineWriter | None = None, worker: int | None = None) -> FastAPI:
    """Return the application; its parts are created when its lifespan begins.

    Entering the lifespan raises StartError if there is nothing to serve.

    Args:
        settings: all of them.
        log: the output of `logging_to`; without it, structlog writes the access lines.
        worker: number of this worker, if there are several.
    """
    runtime = Runtime(settings, Metrics(), __version__, access=access_log(settings.logging, log, worker))
    if log is not None:
        runtime.metrics.watch_log(lambda: log.dropped)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with serving(runtime):
            yield

    app = make_api(runtime, lifespan=lifespan)
    app.state.runtime = runtime
    if settings.page.enabled:
        app.include_router(page_router(lambda _request: _page_sources(runtime), settings.page.report))
    return app


@asynccontextmanager
async def serving(runtime: Runtime) -> AsyncIterator[None]:
    """Create the backend, and close its parts in reverse order.

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
        store = _store(_redis_of_behaviours(settings), settings, metrics, bundles.served)
        stack.push_async_callback(store.close)
        sinks = await _sinks(settings, metrics, stack)
        _watch_redis(settings, metrics, stack)
        experiments = await _experiments(settings, metrics, deployments, runtime, stack)
        metrics.watch_arms(lambda: experiments.snapshot)
        key = _secret(settings.experiments.pseudonym_key)
        exposures = Exposures(sinks.exposures, on_exposure=metrics.exposure, pseudonym_key=key)
        rankings = _ranking_log(settings, sinks, metrics, key)
        ranker = Ranker(store, deployments, experiments, exposures, metrics, settings, rankings=rankings)
        if not ranker.is_ready:
            raise StartError("the default model of a layer cannot be served; the lines above say why")
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
            feedback=FeedbackLog(
                sinks.feedback,
                on_feedback=metrics.feedback,
                on_refused=metrics.feedback_refused,
                on_clamped=metrics.feedback_clamped,
                pseudonym_key=key,
            ),
            bundles=bundles,
        )
        # The store's gauge is right, and its connections are open, before the first request.
        await asyncio.gather(store.ping(), store.read([""]))
        metrics.ready(True)
        sinks.start_replay()
        try:
            yield
        finally:
            runtime.drain()


@dataclass(frozen=True, slots=True)
class _Redis:
    """A Redis that a variable names."""

    variable: str
    address: RedisAddress

    def client(
        self,
        timeout_ms: int,
        max_connections: int,
        metrics: Metrics,
        kind: StoreKind | None = None,
        confirm: bool = False,
    ) -> Client:
        """Create a client; one with a kind is watched, and all except reads wait for a replica's confirmation."""
        writes = confirm or kind in ("writes", "events")
        try:
            client = make_client(
                self.address,
                timeout_seconds=timeout_ms / 1000,
                max_connections=max_connections,
                confirmation=Confirmation(metrics.store_unconfirmed) if writes else None,
                observer=metrics,
            )
        except RedisUrlError as error:
            raise StartError(f"{self.variable}: {error}") from error
        if kind is not None:
            metrics.watch_store(kind, client.state)
        return client


def _redis_of_behaviours(settings: Settings) -> _Redis:
    return _Redis("RANKER_REDIS__URL", settings.redis.address)


def _redis_of_streams(settings: Settings) -> _Redis:
    own = settings.streams.url is not None
    return _Redis("RANKER_STREAMS__URL" if own else "RANKER_REDIS__URL", settings.streams_address)


def _store(
    redis: _Redis, settings: Settings, metrics: Metrics, served: Callable[[], list[Bundle]]
) -> RedisBehaviourStore:
    chosen = settings.redis
    return RedisBehaviourStore(
        redis.client(chosen.read_timeout_ms, chosen.max_connections, metrics, "reads"),
        redis.client(chosen.write_timeout_ms, chosen.max_connections, metrics, "writes"),
        read_length=chosen.read_length,
        max_length=chosen.max_length,
        ttl_seconds=chosen.ttl_s,
        observer=metrics,
        served=served,
        prefix=chosen.prefix,
        known_bytes=_KNOWN_BYTES if settings.inference.state_cache_entries else 0,
    )


async def _sinks(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Sinks:
    if not settings.streams.enabled:
        return no_sinks(metrics)
    redis, timeout_ms = _redis_of_streams(settings), settings.streams.write_timeout_ms
    return await open_sinks(settings, redis.client(timeout_ms, _STREAM_CONNECTIONS, metrics, "events"), metrics, stack)


def _ranking_log(settings: Settings, sinks: Sinks, metrics: Metrics, key: bytes | None) -> RankingLog | None:
    if sinks.rankings is None:
        return None
    return RankingLog(sinks.rankings, settings.ranking_log, on_logged=metrics.ranking_logged, pseudonym_key=key)


def _watch_redis(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> None:
    """Check the servers periodically, over separate connections."""
    streams = settings.streams
    own = streams.enabled and streams.url is not None
    instances = [_instance("behaviours", _redis_of_behaviours(settings), settings, metrics, stack)]
    instances[0].keeps_streams = streams.enabled and not own
    if own:
        instances.append(_instance("streams", _redis_of_streams(settings), settings, metrics, stack))
        instances[1].keeps_streams = True
    log_bytes = ranking_log_bytes(settings.ranking_log)
    watch = supervise("redis_watch", RedisWatch(instances, streams.max_length, metrics, log_bytes).run, metrics)
    stack.push_async_callback(watch.cancel)


def _instance(name: str, redis: _Redis, settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Instance:
    client = redis.client(settings.streams.write_timeout_ms, 1, metrics)
    stack.push_async_callback(client.aclose)
    is_cluster = redis.address.kind == "cluster"
    return Instance(name, client, is_cluster, keeps_behaviours=name == "behaviours", keeps_streams=False)


def _deployments(settings: Settings, metrics: Metrics) -> Deployments:
    registry = BundleRegistry(settings.bundles.root)
    states = StateCache(settings.inference.state_cache_entries, settings.inference.state_cache_bytes)
    return Deployments(registry, states, DeploymentLimits.of(settings), metrics, prover=prove_in_process)


async def _experiments(
    settings: Settings, metrics: Metrics, deployments: Deployments, runtime: Runtime, stack: AsyncExitStack
) -> Experiments:
    """Return the experiments with a file accepted and its models loaded."""
    registry = BundleRegistry(settings.bundles.root)
    file = settings.experiments.file
    experiments = Experiments(
        file,
        versions=registry.versions,
        observer=metrics,
        default_model=_default_model(settings, registry) if file is None else "",
        prepare=deployments.prepare,
        shared=_shared_state(settings, metrics, runtime, stack),
        now_ms=runtime.now_ms,
    )
    result = await experiments.reload()
    if experiments.snapshot is None:
        subject = f"the experiment file {file}" if file is not None else "the default model"
        problems = "; ".join(experiments.problems) or "the lines above say why"
        raise StartError(f"{subject} cannot be served ({result}): {problems}")
    return experiments


def _shared_state(settings: Settings, metrics: Metrics, runtime: Runtime, stack: AsyncExitStack) -> SharedState:
    """Return the state shared by the replicas; None if there is no file."""
    chosen = settings.experiments
    if chosen.file is None:
        return SharedState(now_ms=runtime.now_ms)
    return SharedState(_state_store(settings, metrics, runtime, stack), chosen.state_copy, now_ms=runtime.now_ms)


def _state_store(settings: Settings, metrics: Metrics, runtime: Runtime, stack: AsyncExitStack) -> StateStore:
    chosen = settings.experiments
    seconds = chosen.state_timeout_ms / 1000
    kind, _, name = chosen.state.partition(":")
    if kind != "redis":
        path = Path(chosen.state)
        if not path.parent.is_dir():
            raise StartError(f"RANKER_EXPERIMENTS__STATE: {path.parent} is not a folder")
        return FileStateStore(path, seconds, runtime.now_ms)
    client = _redis_of_streams(settings).client(chosen.state_timeout_ms, 2, metrics, confirm=True)
    stack.push_async_callback(client.aclose)
    key = settings.redis.prefix + STATE_KEY + (f":{name}" if name else "")
    return RedisStateStore(client, key, seconds)


def _default_model(settings: Settings, registry: BundleRegistry) -> str:
    models = registry.models()
    if settings.bundles.default_model:
        return settings.bundles.default_model
    if len(models) == 1:
        return models[0]
    found = f"contains {', '.join(models)}" if models else "contains no bundle"
    raise StartError(
        f"{settings.bundles.root} {found}: name a model in RANKER_BUNDLES__DEFAULT_MODEL, or an experiment file in "
        "RANKER_EXPERIMENTS__FILE; `python -m exporter` makes bundles"
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
