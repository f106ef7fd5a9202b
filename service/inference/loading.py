"""From a name to an engine that may serve: tried in a process of its own, then loaded here, with a time limit on both.

Refusals are remembered: the experiment file is looked at every few seconds, and a bundle that was refused costs
nothing until its files change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.bundles.files import Identity, identity_of
from service.bundles.refusals import Model, Refusals
from service.bundles.registry import BundleRegistry
from service.flow.threads import DaemonThreads, in_time
from service.inference.engine import EngineError, OnnxEngine
from service.inference.limits import DeploymentLimits
from service.inference.proof import Proof, ProofRequest
from service.inference.proven import EngineMaker, proven_engine

Prover = Callable[[ProofRequest], Awaitable[Proof]]

_LOOK_SECONDS: Final = 5.0  # for listing a folder

_log = structlog.get_logger(__name__)


class NotServable(Exception):  # noqa: N818 - the name describes the bundle
    """A bundle that must not be served, or does not pass here and now.

    Attributes:
        was_tried: false if an earlier refusal is still valid.
    """

    def __init__(self, problem: str, *, was_tried: bool) -> None:
        super().__init__(problem)
        self.was_tried = was_tried


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle with an engine that has given its golden scores, and how much it can do at once."""

    bundle: Bundle
    engine: OnnxEngine
    limits: DeploymentLimits


class Loader:
    """Loads bundles; refuses those that are damaged, hurt the process, or are too slow for the deadline.

    Args:
        registry: where they are.
        limits: how they are loaded and run.
        make_engine: makes engines.
        prover: tries a bundle before it is loaded here; None loads it without.
        refusals: what was refused.
    """

    def __init__(
        self,
        registry: BundleRegistry,
        limits: DeploymentLimits,
        make_engine: EngineMaker = OnnxEngine,
        prover: Prover | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self._registry, self._limits, self._make_engine, self._prover = registry, limits, make_engine, prover
        self.refusals = refusals or Refusals()
        self._threads = DaemonThreads(1, "loading")

    async def load(self, model: Model) -> Loaded:
        """Return a bundle that may serve.

        Raises:
            NotServable: it may not, or did not pass.
        """
        identity: Identity = ()
        try:
            directory = self._directory(model)
            identity = await in_time(self._threads, _LOOK_SECONDS, identity_of, directory)
            self._refuse_again(model, identity)
            loaded = await self._load(directory)
        except (BundleError, EngineError, TimeoutError) as error:
            problem = str(error) or "its folder could not be read in time"
            if self.refusals.note(model, identity, problem, for_good=isinstance(error, BundleError)):
                _log.error("bundle_refused", model=model[0], version=model[1], error=problem)
            raise NotServable(problem, was_tried=True) from error
        self.refusals.forget(model)
        return loaded

    async def changed(self, bundles: Mapping[Model, Bundle]) -> list[Model]:
        """Return those whose mapped tables were edited in place; none if their files cannot be looked at now."""
        try:
            return await in_time(self._threads, _LOOK_SECONDS, _changed, bundles)
        except TimeoutError:
            return []

    def close(self) -> None:
        """Load nothing more."""
        self._threads.shutdown()

    def _directory(self, model: Model) -> Path:
        directory = self._registry.directory(*model)
        if directory is None:
            raise BundleError("this is not a name of a bundle")
        return directory.absolute()

    def _refuse_again(self, model: Model, identity: Identity) -> None:
        problem = self.refusals.of(model, identity)
        if problem is not None:
            raise NotServable(problem, was_tried=False)

    async def _load(self, directory: Path) -> Loaded:
        limits = self._limits
        if self._prover is None:
            bundle, engine = await self._load_here(directory, limits, None)
            return Loaded(bundle, engine, limits)
        proof = await self._prover(_request(directory, limits))
        limits = _fitting(limits, proof)
        bundle, engine = await self._load_here(directory, limits, proof.digest)
        _log.info(
            "bundle_proven",
            bundle=bundle.name,
            request_ms=round(proof.request_seconds * 1000, 1),
            batch_ms=round(proof.batch_seconds * 1000, 1),
            peak_mb=proof.peak_bytes // 1_000_000,
            threads=proof.threads,
        )
        return Loaded(bundle, engine, limits)

    async def _load_here(
        self, directory: Path, limits: DeploymentLimits, digest: str | None
    ) -> tuple[Bundle, OnnxEngine]:
        try:
            return await in_time(self._threads, limits.load_seconds, self._open, directory, limits, digest)
        except TimeoutError as error:
            raise EngineError(f"loading it took longer than {limits.load_seconds:g} s") from error

    def _open(self, directory: Path, limits: DeploymentLimits, digest: str | None) -> tuple[Bundle, OnnxEngine]:
        bundle = load_bundle(directory, max_bytes=limits.max_bundle_bytes, map_tables=limits.map_tables)
        if not np.ptp(bundle.golden["scores"]) and len(np.unique(bundle.golden["candidates"])) > 1:
            _log.warning("bundle_orders_nothing", bundle=bundle.name)  # its golden scores are all the same
        if digest is not None and bundle.digest != digest:
            raise EngineError("it changed while it was loaded")
        promised = bundle.manifest.max_candidates
        if promised < limits.max_candidates:
            raise BundleError(f"made for {promised} candidates, a request may hold {limits.max_candidates}")
        return bundle, proven_engine(bundle, limits, self._make_engine)


def _changed(bundles: Mapping[Model, Bundle]) -> list[Model]:
    return [model for model, bundle in bundles.items() if bundle.tables.were_changed()]


def _request(directory: Path, limits: DeploymentLimits) -> ProofRequest:
    return ProofRequest(
        directory=str(directory),
        max_bundle_bytes=limits.max_bundle_bytes,
        provider=limits.provider,
        threads=limits.threads,
        max_candidates=limits.max_candidates,
        max_rows=limits.max_rows,
        max_batch_candidates=limits.max_batch_candidates,
        budget_seconds=limits.budget_seconds,
        memory_bytes=limits.memory_bytes,
        limit_seconds=limits.load_seconds,
    )


def _fitting(limits: DeploymentLimits, proof: Proof) -> DeploymentLimits:
    """Return the limits with the proven threads, and batches so small that one is as fast as the largest request."""
    share = min(1.0, limits.budget_seconds / max(proof.batch_seconds, 1e-9))
    return replace(
        limits,
        threads=proof.threads,
        max_rows=max(1, int(limits.max_rows * share)),
        max_batch_candidates=max(limits.max_candidates, int(limits.max_batch_candidates * share)),
    )
