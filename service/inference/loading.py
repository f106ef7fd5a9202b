"""From a name to an engine that may serve: tried in a process of its own, then loaded here, with a time limit on both.

Refusals are remembered: the experiment file is looked at every few seconds, and a bundle that was refused costs
nothing until its files change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.bundles.files import Identity, UntrustedBundleError, identity_of
from service.bundles.refusals import Model, Refusals
from service.bundles.registry import BundleRegistry
from service.flow.short_turns import short_turns
from service.flow.threads import DaemonThreads, in_time
from service.inference.engine import EngineError, OnnxEngine
from service.inference.free_memory import give_back
from service.inference.proof import Proof, ProofRequest
from service.inference.proven import EngineMaker, proven_engine
from service.settings.root import Settings

Prover = Callable[[ProofRequest], Awaitable[Proof]]

_LOOK_SECONDS: Final = 5.0  # for listing a folder

_log = structlog.get_logger(__name__)


class NotServable(Exception):  # noqa: N818 - the name describes the bundle
    """A bundle that must not be served, or does not pass here and now.

    Attributes:
        was_tried: false if an earlier refusal is still valid.
        is_untrusted: no accepted key signed it.
    """

    def __init__(self, problem: str, *, was_tried: bool, is_untrusted: bool = False) -> None:
        super().__init__(problem)
        self.was_tried, self.is_untrusted = was_tried, is_untrusted


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle, an engine that has given its golden scores, and the settings with this bundle's threads and batches."""

    bundle: Bundle
    engine: OnnxEngine
    settings: Settings


class Loader:
    """Loads bundles; refuses those that are damaged, hurt the process, or are too slow for the deadline.

    Args:
        registry: where they are.
        settings: how they are loaded and run.
        make_engine: makes engines.
        prover: tries a bundle before it is loaded here; None loads it without.
        refusals: what was refused.
    """

    def __init__(
        self,
        registry: BundleRegistry,
        settings: Settings,
        make_engine: EngineMaker = OnnxEngine,
        prover: Prover | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self._registry, self._settings, self._make_engine, self._prover = registry, settings, make_engine, prover
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
            identity = await in_time(self._threads, _LOOK_SECONDS, self._identity, directory)
            self._refuse_again(model, identity)
            loaded = await self._load(directory)
        except (BundleError, EngineError, TimeoutError) as error:
            problem = str(error) or "its folder could not be read in time"
            if self.refusals.note(model, identity, problem, for_good=isinstance(error, BundleError)):
                _log.error("bundle_refused", model=model[0], version=model[1], error=problem)
            is_untrusted = isinstance(error, UntrustedBundleError)
            raise NotServable(problem, was_tried=True, is_untrusted=is_untrusted) from error
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

    def _identity(self, directory: Path) -> Identity:
        """Return a value that changes with the bundle's files or with the keys that it must be signed with."""
        signers = self._settings.bundles.signers
        return (*identity_of(directory), *(() if signers is None else identity_of(signers)))

    def _refuse_again(self, model: Model, identity: Identity) -> None:
        problem = self.refusals.of(model, identity)
        if problem is not None:
            raise NotServable(problem, was_tried=False)

    async def _load(self, directory: Path) -> Loaded:
        if self._prover is None:
            return await self._load_here(directory, self._settings, None)
        proof = await self._prover(_request(directory, self._settings))
        loaded = await self._load_here(directory, _fitting(self._settings, proof), proof.digest)
        _log.info(
            "bundle_proven",
            bundle=loaded.bundle.name,
            request_ms=round(proof.request_seconds * 1000, 1),
            batch_ms=round(proof.batch_seconds * 1000, 1),
            peak_mb=proof.peak_bytes // 1_000_000,
            threads=proof.threads,
        )
        return loaded

    async def _load_here(self, directory: Path, settings: Settings, digest: str | None) -> Loaded:
        seconds = settings.bundles.load_timeout_ms / 1000
        try:
            return await in_time(self._threads, seconds, self._open, directory, settings, digest)
        except TimeoutError as error:
            raise EngineError(f"loading it took longer than {seconds:g} s") from error

    @short_turns()
    def _open(self, directory: Path, settings: Settings, digest: str | None) -> Loaded:
        bundles, most = settings.bundles, settings.limits.max_candidates
        bundle = load_bundle(
            directory, max_bytes=bundles.max_bytes, map_tables=bundles.map_tables, signers=bundles.signers
        )
        if not np.ptp(bundle.golden["scores"]) and len(np.unique(bundle.golden["candidates"])) > 1:
            _log.warning("bundle_orders_nothing", bundle=bundle.name)  # its golden scores are all the same
        if digest is not None and bundle.digest != digest:
            raise EngineError("it changed while it was loaded")
        promised = bundle.manifest.max_candidates
        if promised < most:
            raise BundleError(f"made for {promised} candidates, a request may hold {most}")
        loaded = Loaded(bundle, proven_engine(bundle, settings.inference, self._make_engine), settings)
        give_back()
        return loaded


def _changed(bundles: Mapping[Model, Bundle]) -> list[Model]:
    return [model for model, bundle in bundles.items() if bundle.tables.were_changed()]


def _request(directory: Path, settings: Settings) -> ProofRequest:
    bundles, inference, batching = settings.bundles, settings.inference, settings.batching
    return ProofRequest(
        directory=str(directory),
        max_bundle_bytes=bundles.max_bytes,
        provider=inference.provider,
        threads=inference.threads,
        max_candidates=settings.limits.max_candidates,
        max_rows=batching.max_rows,
        max_batch_candidates=batching.max_batch_candidates,
        budget_seconds=_budget_seconds(settings),
        memory_bytes=bundles.max_memory_bytes,
        limit_seconds=bundles.load_timeout_ms / 1000,
        signers=str(bundles.signers.absolute()) if bundles.signers is not None else None,
    )


def _budget_seconds(settings: Settings) -> float:
    """Return how long the largest request may take when its bundle is loaded."""
    return settings.bundles.deadline_share * settings.limits.deadline_ms / 1000


def _fitting(settings: Settings, proof: Proof) -> Settings:
    """Return the settings with the proven threads, and batches so small that one is as fast as the largest request."""
    share, batching = min(1.0, _budget_seconds(settings) / max(proof.batch_seconds, 1e-9)), settings.batching
    sizes = {
        "max_rows": max(1, int(batching.max_rows * share)),
        "max_batch_candidates": max(settings.limits.max_candidates, int(batching.max_batch_candidates * share)),
    }
    inference = settings.inference.model_copy(update={"threads": proof.threads})
    return settings.model_copy(update={"inference": inference, "batching": batching.model_copy(update=sizes)})
