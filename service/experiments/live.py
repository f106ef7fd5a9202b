"""The running experiments: checked now and then (acceptance.py), and swapped by one reference."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import structlog

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.decision import UNDECIDED, Decision
from service.experiments.acceptance import Acceptance, InForce
from service.experiments.arm_loading import ArmModels, PrepareRules
from service.experiments.arm_models import Models, models_of
from service.experiments.audit import Audit
from service.experiments.decisions import Decisions
from service.experiments.shared_state import SharedState
from service.experiments.source import ExperimentSource, Rejected, ReloadResult
from service.experiments.targets import TargetsOf
from service.experiments.tracks import Tracks
from service.metrics import Metrics

__all__ = ["Experiments", "Metrics", "Models", "ReloadResult"]

_log = structlog.get_logger(__name__)


class Experiments:
    """The experiments in force.

    Args:
        path: the YAML or JSON file; None for one layer that serves `default_model` to all.
        versions: the versions of a model that can be served, oldest first; none of an unknown model.
        bundles: the folder of bundles, which has the tracks; None for none.
        observer: counts reloads and assignments.
        default_model: served where there is no file.
        prepare: loads and warms models before a file is accepted; raises ExperimentsError if one cannot be served.
        targets_of: the weight of each target of a bundle, None if it is not served; None checks no weights of arms.
        rules: prepares the rules of a file, and returns why some cannot work.
        shared: the accepted state of all replicas; None keeps it in this process.
        now_ms: milliseconds since the epoch.
        read_seconds: how long reading the file, or a look into the folder of bundles, may take; a network mount may
            hang.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        versions: Callable[[str], Sequence[str]],
        observer: Metrics,
        bundles: Path | None = None,
        default_model: str = "",
        prepare: Callable[[Models], Awaitable[None]] | None = None,
        targets_of: TargetsOf | None = None,
        rules: PrepareRules | None = None,
        shared: SharedState | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        read_seconds: float = 10.0,
    ) -> None:
        self._source = ExperimentSource(path, default_model, read_seconds)
        self._models = ArmModels(versions, prepare, read_seconds, targets_of, rules)
        self._observer = observer
        self._shared = shared if shared is not None else SharedState(now_ms=now_ms)
        self._decisions = Decisions()
        self._audit = Audit()
        self._acceptance = Acceptance(
            self._source, self._models, Tracks(bundles, self._audit), self._shared, self._audit, observer
        )
        self._problems: tuple[str, ...] = ()
        self._poked = asyncio.Event()

    @property
    def _in_force(self) -> InForce | None:
        return self._acceptance.in_force

    @property
    def snapshot(self) -> ExperimentsSnapshot | None:
        """The experiments in force; None until a file is accepted; until then the service is not ready."""
        return self._in_force.snapshot if self._in_force is not None else None

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the last check accepted nothing; empty if it did."""
        return self._problems

    @property
    def models(self) -> Models:
        """Every model that the experiments in force may serve."""
        return models_of(self._in_force.snapshot) if self._in_force is not None else frozenset()

    def describe(self) -> dict[str, object] | None:
        """Return what is in force, in JSON form; None if nothing is."""
        if self._in_force is None:
            return None
        file = self._in_force.state.file
        return {"digest": file.digest, "revision": file.config.revision, "tracks": dict(self.tracks)}

    @property
    def tracks(self) -> Mapping[str, str]:
        """The version in force of each track, by `model/track`."""
        return self._in_force.state.tracks if self._in_force is not None else {}

    def decide(
        self,
        unit: object,
        attributes: Mapping[str, object],
        now_ms: int,
        forced: Mapping[str, str] | None = None,
    ) -> Decision:
        """Decide every layer for a unit, and count it."""
        in_force = self._acceptance.in_force
        if in_force is None:
            return UNDECIDED
        snapshot = in_force.snapshot
        if forced:
            decision = snapshot.decide(unit, attributes, now_ms, forced)
        else:
            decision = self._decisions.of(snapshot, unit, attributes, now_ms)
        self._observer.assigned(decision)
        return decision

    def undecided(self, reason: Literal["not_ranked", "error"] = "not_ranked") -> Decision:
        """Return the decision of a response that did not rank; counts nothing."""
        return self._in_force.snapshot.undecided(reason) if self._in_force is not None else UNDECIDED

    async def reload(self) -> ReloadResult:
        """Check once; on any error the last accepted experiments stay, and nothing is raised."""
        try:
            result = await self._acceptance.look()
            self._problems = ()
            self._audit.is_over("experiments_rejected")
        except Rejected as rejected:
            result, self._problems = rejected.result, rejected.problems
            self._audit_rejection(rejected)
        self._observer.experiments_reloaded(result)
        self._observe(is_file_in_force=result in {"accepted", "unchanged", "adopted"})
        return result

    async def watch(self, interval_seconds: float) -> None:
        """Check periodically, and at once when poked; runs until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_seconds):
                    await self._poked.wait()
            self._poked.clear()
            await self._reload_unless_changed(interval_seconds)

    def poke(self) -> None:
        """Make `watch` check now (SIGHUP)."""
        self._poked.set()

    async def _reload_unless_changed(self, interval_seconds: float) -> None:
        """Check once, and stop loading a new file's models if the file changes again meanwhile.

        Loading may take as long as a bundle's time limit; a corrected file must not wait for that.
        """
        looking = asyncio.ensure_future(self.reload())
        try:
            while not (await asyncio.wait({looking}, timeout=interval_seconds))[0]:
                if self._models.is_loading and await self._source.has_changed():
                    _log.warning("experiments_loading_given_up")
                    self._poked.set()
                    return
            looking.result()
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    def _observe(self, *, is_file_in_force: bool) -> None:
        if self._in_force is None:
            return
        state = self._in_force.state
        self._observer.experiments_in_force(state.file.digest, state.file.config.revision)
        self._observer.experiments_state(
            revision=state.revision,
            is_shared=self._source.path is None or self._shared.is_shared,
            is_file_in_force=is_file_in_force,
        )

    def _audit_rejection(self, rejected: Rejected) -> None:
        self._audit.trouble(
            "experiments_rejected",
            self._source.identity,
            owner=self._source.owner,
            result=rejected.result,
            problems=rejected.problems,
            digest_in_force=self._in_force.state.file.digest if self._in_force is not None else None,
        )
