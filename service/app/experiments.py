"""The experiments, with a file accepted and its models loaded."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from service.app.redis import redis_of_streams
from service.bundles.registry import BundleRegistry
from service.errors import StartError
from service.experiments.live import Experiments
from service.experiments.shared_state import SharedState
from service.experiments.state_stores import STATE_KEY, FileStateStore, RedisStateStore, StateStore
from service.inference.fleet import Deployments
from service.metrics import Metrics
from service.ranking.rules.book import RuleBook
from service.runtime import Runtime
from service.settings.root import Settings


async def accepted_experiments(
    settings: Settings,
    metrics: Metrics,
    deployments: Deployments,
    rules: RuleBook,
    runtime: Runtime,
    stack: AsyncExitStack,
) -> Experiments:
    """Return the experiments with a file accepted and its models loaded."""
    registry = BundleRegistry(settings.bundles.root)
    file = settings.experiments.file
    experiments = Experiments(
        file,
        versions=registry.versions,
        observer=metrics,
        bundles=settings.bundles.root,
        default_model=_default_model(settings, registry) if file is None else "",
        prepare=deployments.prepare,
        targets_of=deployments.targets_of,
        rules=rules.prepare,
        shared=_shared_state(settings, metrics, runtime, stack),
        now_ms=runtime.now_ms,
    )
    result = await experiments.reload()
    if experiments.snapshot is None:
        default = "the default model (RANKER_BUNDLES__DEFAULT_MODEL)"
        subject = f"the experiment file {file}" if file is not None else default
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
    client = redis_of_streams(settings).client(chosen.state_timeout_ms, 2, metrics, confirm=True)
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
