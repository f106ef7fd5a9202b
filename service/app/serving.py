"""The application and its lifespan: the order in which parts are created, and closed in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from service import __version__
from service.app.access import access_source
from service.app.experiments import accepted_experiments
from service.app.redis import behaviour_store, event_sinks, item_store, watch_redis
from service.bundles.registry import BundleRegistry
from service.errors import StartError
from service.experiments.arm_models import shadow_models_of
from service.experiments.exposures import Exposures
from service.experiments.feedback import FeedbackLog
from service.experiments.live import Experiments
from service.experiments.overrides import Overrides
from service.flow.loop_wait import LoopWait
from service.flow.supervision import supervise
from service.http.api import make_api
from service.inference.fleet import Deployments, ServedBundles
from service.inference.fork_server import ForkServer
from service.inference.prover import Prover
from service.inference.state_cache import StateCache
from service.log import access_log
from service.metrics import Metrics
from service.output.line_writer import LineWriter
from service.page.comparison import PageSources
from service.page.routes import page_router
from service.ranking.ranker import Ranker
from service.ranking.ranking_log import RankingLog
from service.ranking.rules.book import RuleBook
from service.runtime import Backend, Runtime
from service.settings.environment import SettingsError, override_secret_again
from service.settings.root import Settings
from service.settings.traces import TracesSettings
from service.settings.unsafe import warnings as settings_warnings
from service.shadow.shadows import Shadows
from service.store.sinks import Sinks
from service.tracing.traces import Traces

_log = structlog.get_logger(__name__)


def create_app(
    settings: Settings, log: LineWriter | None = None, worker: int | None = None, forks: ForkServer | None = None
) -> FastAPI:
    """Return the application; its parts are created when its lifespan begins.

    Its state has the `runtime`, and the application for `operators`, which is another one if they have their own port.
    Entering the lifespan raises StartError if there is nothing to serve.

    Args:
        settings: all of them.
        log: the output of `logging_to`; without it, structlog writes the access lines.
        worker: number of this worker, if there are several.
        forks: starts the processes that try bundles; without it, each is a new interpreter.
    """
    runtime = Runtime(settings, Metrics(), __version__, access=access_log(settings.logging, log, worker))
    if log is not None:
        runtime.metrics.watch_log(lambda: log.dropped)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with serving(runtime, Prover(forks)):
            yield

    has_own_port = settings.admin.port is not None
    app = make_api(runtime, "callers" if has_own_port else "all", lifespan=lifespan)
    operators = make_api(runtime, "operators") if has_own_port else app
    app.state.runtime, app.state.operators = runtime, operators
    if settings.page.enabled:
        operators.include_router(page_router(lambda _request: _page_sources(runtime), settings.page.report))
    return app


@asynccontextmanager
async def serving(runtime: Runtime, prover: Prover) -> AsyncIterator[None]:
    """Create the backend, and close its parts in reverse order.

    Raises:
        StartError: there is nothing to serve.
    """
    settings, metrics = runtime.settings, runtime.metrics
    _check_signers(settings.bundles.signers)
    for warning in settings_warnings(settings):
        _log.warning("unsafe_setting", warning=warning)
    async with AsyncExitStack() as stack:
        if settings.traces.endpoint is not None:
            runtime.traces = _traces(settings.traces, metrics)
            stack.push_async_callback(runtime.traces.close)
        access = await access_source(runtime, stack)
        deployments = _deployments(settings, metrics, prover)
        stack.push_async_callback(deployments.close)
        bundles = ServedBundles(deployments)
        store = behaviour_store(settings, metrics, bundles.served)
        stack.push_async_callback(store.close)
        items = item_store(settings, metrics)
        stack.push_async_callback(items.close)
        sinks = await event_sinks(settings, metrics, stack)
        watch_redis(settings, metrics, stack)
        rules = RuleBook(bundles.served)
        experiments = await accepted_experiments(settings, metrics, deployments, rules, runtime, stack)
        metrics.watch_arms(lambda: experiments.snapshot)
        key = _secret(settings.experiments.pseudonym_key)
        exposures = Exposures(sinks.exposures, on_exposure=metrics.exposure, pseudonym_key=key)
        rankings = _ranking_log(settings, sinks, metrics, key)
        shadows = _shadows(runtime, experiments)
        stack.push_async_callback(shadows.close)
        ranker = Ranker(
            store, deployments, experiments, exposures, metrics, settings,
            rankings=rankings, items=items, rules=rules, shadows=shadows,
        )  # fmt: skip
        if not ranker.is_ready:
            raise StartError("the default model of a layer cannot be served; the lines above say why")
        stack.push_async_callback(ranker.close)
        _watch(experiments, settings.experiments.reload_ms / 1000, metrics, stack)
        _watch_bundles(deployments, settings.experiments.reload_ms / 1000, metrics, stack)

        stack.callback(LoopWait(metrics.loop_waited).stop)
        overrides = _overrides(settings, metrics)

        def reload() -> None:
            deployments.try_again()
            experiments.poke()
            if access is not None:
                access.poke()
            _use_new_secret(overrides)

        runtime.reload = reload
        runtime.backend = Backend(
            ranker=ranker,
            experiments=experiments,
            overrides=overrides,
            store=store,
            items=items,
            feedback=_feedback_log(sinks, metrics, key),
            bundles=bundles,
        )
        # The store's gauge is right, and its connections are open, before the first request.
        await asyncio.gather(store.ping(), store.read([""]))
        if runtime.slow is not None:
            runtime.slow.start()
            stack.callback(runtime.slow.stop)
        metrics.ready(True)
        sinks.start_replay()
        try:
            yield
        finally:
            runtime.drain()


def _check_signers(path: Path | None) -> None:
    """Start with keys that can be used, or not at all; they are read again for each bundle."""
    if path is None:
        return
    try:
        from service.bundles.signatures import SignersError, read_signers
    except ImportError as error:
        raise StartError(
            "RANKER_BUNDLES__SIGNERS is set, but cryptography is missing: install the extra `signing`"
        ) from error
    try:
        read_signers(path)
    except SignersError as error:
        raise StartError(f"RANKER_BUNDLES__SIGNERS: {error}") from error


def _overrides(settings: Settings, metrics: Metrics) -> Overrides:
    secret = settings.experiments.override_secret
    return Overrides(secret.get_secret_value() if secret else None, metrics.override_rejected)


def _feedback_log(sinks: Sinks, metrics: Metrics, key: bytes | None) -> FeedbackLog:
    return FeedbackLog(
        sinks.feedback,
        on_feedback=metrics.feedback,
        on_refused=metrics.feedback_refused,
        on_clamped=metrics.feedback_clamped,
        pseudonym_key=key,
    )


def _ranking_log(settings: Settings, sinks: Sinks, metrics: Metrics, key: bytes | None) -> RankingLog | None:
    if sinks.rankings is None:
        return None
    return RankingLog(sinks.rankings, settings.ranking_log, on_logged=metrics.ranking_logged, pseudonym_key=key)


def _traces(settings: TracesSettings, metrics: Metrics) -> Traces:
    try:
        from service.tracing.exporting import exported_traces
    except ImportError as error:
        raise StartError("RANKER_TRACES__ENDPOINT needs OpenTelemetry: pip install 'ranker[otel]'") from error
    return exported_traces(settings, __version__, metrics.spans_sent, metrics.trace_over_limit)


def _shadows(runtime: Runtime, experiments: Experiments) -> Shadows:
    def named() -> frozenset[tuple[str, str]]:
        return shadow_models_of(experiments.snapshot) if experiments.snapshot is not None else frozenset()

    gate, seconds = runtime.admission.rankings, runtime.settings.limits.deadline_ms / 1000
    registry = BundleRegistry(runtime.settings.bundles.root)
    # Busy: a ranking with half the usual deadline would be refused.
    return Shadows(runtime.settings, registry, runtime.metrics, named, lambda: gate.is_full(seconds / 2))


def _deployments(settings: Settings, metrics: Metrics, prover: Prover) -> Deployments:
    registry = BundleRegistry(settings.bundles.root)
    states = StateCache(settings.inference.state_cache_entries, settings.inference.state_cache_bytes)
    return Deployments(registry, states, settings, metrics, prover=prover)


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
        written=runtime.metrics.behaviours_written,
        show_bucket=runtime.settings.experiments.show_bucket,
        rank_port=None if runtime.settings.admin.port is None else runtime.callers_port,
    )


def _use_new_secret(overrides: Overrides) -> None:
    """Read the file of the override secret again; a file that cannot be used changes nothing."""
    try:
        secret = override_secret_again()
    except SettingsError as error:
        _log.error("secret_refused", problems=error.problems)
        return
    if secret is not None:
        overrides.use(secret.get_secret_value())


def _secret(secret: SecretStr | None) -> bytes | None:
    return secret.get_secret_value().encode() if secret is not None else None
