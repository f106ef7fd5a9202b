"""Bundles being served, with every engine that was made for them, and requests for scores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event, current_thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundles.bundle import Bundle
from service.bundles.registry import BundleRegistry
from service.inference.deployment import Deployment
from service.inference.engine import NO_CONTEXT, EngineError, OnnxEngine, ProviderChoice
from service.inference.fleet import Deployments
from service.inference.inputs import RankRow
from service.inference.scorer import ScoredRow
from service.inference.state_cache import StateCache
from service.metrics import Metrics
from service.settings.root import Settings
from tests.support.builders import TinyModel, behaviours
from tests.support.waiting import until


def settings_of(**sections: Mapping[str, Any]) -> Settings:
    """Return settings for small bundles on one thread, with some fields of some sections changed."""
    usual: dict[str, Mapping[str, Any]] = {
        "limits": {"max_candidates": 1},  # a bundle of any size is accepted
        "bundles": {"max_bytes": 10_000_000},
        "inference": {"provider": "cpu", "threads": 1, "warm_up_rows": (1, 4)},
    }
    return Settings(**{name: {**usual.get(name, {}), **sections.get(name, {})} for name in {*usual, *sections}})


SETTINGS = settings_of()
OLD, NEW = ("tiny", "1"), ("tiny", "2")


class Faulty(OnnxEngine):
    """The real engine, which breaks and stays broken when told to."""

    def __init__(self, bundle: Bundle, provider: ProviderChoice = "auto", threads: int = 0) -> None:
        super().__init__(bundle, provider, threads)
        self.asked_for = provider
        self.broken = False
        self.closed = False
        self.gate: Event | None = None
        self.delay = 0.0
        self.ran_in: list[str] = []  # the thread of each run of `encode`

    def encode(self, inputs: Any) -> dict[str, NDArray[Any]]:
        if self.broken:
            raise EngineError("CUDA failure 700: an illegal memory access was encountered", fatal=True)
        if self.gate is not None:
            self.gate.wait(10)
        self.ran_in.append(current_thread().name)
        return super().encode(inputs)

    def score(self, state: Any, candidates: Any, rows: Any, context: Any = NO_CONTEXT) -> dict[str, NDArray[Any]]:
        time.sleep(self.delay)
        return super().score(state, candidates, rows, context)

    def close(self) -> None:
        self.closed = True
        super().close()


class Rig:
    """Deployments over a folder, with every engine they made."""

    def __init__(self, root: Path, settings: Settings = SETTINGS) -> None:
        self.root, self.engines, self.refuse = root, list[Faulty](), False
        self.made = 0
        self.metrics = Metrics()
        self.deployments = Deployments(
            BundleRegistry(root), StateCache(100), settings, self.metrics, release_seconds=0, make_engine=self.make
        )

    def make(self, bundle: Bundle, provider: ProviderChoice, threads: int) -> Faulty:
        self.made += 1
        if self.refuse and provider != "cpu":
            raise EngineError("no device")
        self.engines.append(Faulty(bundle, "cpu", threads))
        self.engines[-1].asked_for = provider
        return self.engines[-1]

    def get(self, model: tuple[str, str]) -> Deployment:
        found = self.deployments.find(*model)
        assert found is not None
        return found

    def shown(self, metric: str) -> list[str]:
        return [line for line in self.metrics.render().decode().splitlines() if line.startswith(metric)]


class Asked:
    """A request for scores, with all that it was answered."""

    def __init__(
        self, *candidates: int, user: str = "u", seconds: float = 60.0, history: Sequence[str] = ("i1", "i2")
    ) -> None:
        chosen = np.array(candidates or (1, 2), dtype=np.int64)
        self.row = RankRow(user, behaviours(history), chosen, 0)
        self.cost, self.until = len(chosen), asyncio.get_running_loop().time() + seconds
        self.queued_at = self.waited = -1.0
        self.is_over = False
        self.values: list[ScoredRow | Exception] = []

    def scored(self, value: ScoredRow | Exception) -> None:
        self.values.append(value)

    async def outcome(self) -> ScoredRow:
        await until(lambda: bool(self.values))
        [value] = self.values
        if isinstance(value, Exception):
            raise value
        return value


async def score(deployment: Deployment, *candidates: int, user: str = "u") -> ScoredRow:
    """Return the scores of a request that comes by itself."""
    asked = Asked(*candidates, user=user)
    deployment.submit([asked])
    return await asked.outcome()


@asynccontextmanager
async def rig_of(root: Path, *models: TinyModel, settings: Settings = SETTINGS) -> AsyncIterator[Rig]:
    for model in models:
        model.write(root)
    rig = Rig(root, settings)
    try:
        yield rig
    finally:
        await rig.deployments.close()
