"""The running experiments: the file is read, checked against all accepted files, and swapped by one reference.

The steps of a check: follow what other replicas accepted; read the file; validate it; check it against earlier files
(contract/experiments/ramps.py); make its models ready; agree on it with the other replicas (shared_state.py); swap.
A promotion of a track (tracks.py) takes the same way from "make its models ready" on, with the file in force.
If a step fails, the last accepted experiments stay. Each attempt with news writes one audit line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import structlog

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.decision import UNDECIDED, Decision
from contract.experiments.history import ExperimentFile, State, moved
from contract.experiments.ramps import is_any_live, propose
from contract.experiments.tracks import tracks_of
from service.experiments.arm_loading import ArmModels
from service.experiments.arm_models import Models, VersionChoice, models_of
from service.experiments.audit import Audit
from service.experiments.decisions import Decisions
from service.experiments.shared_state import SharedState
from service.experiments.source import ExperimentSource, Rejected, ReloadResult
from service.experiments.state_stores import StateUnavailable
from service.experiments.tracks import Tracks
from service.metrics import Metrics

__all__ = ["Experiments", "Metrics", "Models", "ReloadResult"]

_TRIES: Final = 4  # of a file in one check, if other replicas accept files too

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _InForce:
    state: State
    snapshot: ExperimentsSnapshot


class Experiments:
    """The experiments in force.

    Args:
        path: the YAML or JSON file; None for one layer that serves `default_model` to all.
        versions: the versions of a model that can be served, oldest first; none of an unknown model.
        bundles: the folder of bundles, which has the tracks; None for none.
        observer: counts reloads and assignments.
        default_model: served where there is no file.
        prepare: loads and warms models before a file is accepted; raises ExperimentsError if one cannot be served.
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
        shared: SharedState | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        read_seconds: float = 10.0,
    ) -> None:
        self._source = ExperimentSource(path, default_model, read_seconds)
        self._models = ArmModels(versions, prepare, read_seconds)
        self._observer = observer
        self._shared = shared if shared is not None else SharedState(now_ms=now_ms)
        self._in_force: _InForce | None = None
        self._decisions = Decisions()
        self._audit = Audit()
        self._tracks = Tracks(bundles, self._audit)
        self._problems: tuple[str, ...] = ()
        self._poked = asyncio.Event()

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
        if self._in_force is None:
            return UNDECIDED
        snapshot = self._in_force.snapshot
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
            result = await self._look()
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

    async def _look(self) -> ReloadResult:
        await self._shared.look()
        first = self._in_force is None
        trouble: Rejected | None = None
        try:
            await self._follow()
        except Rejected as rejected:  # the accepted file cannot be served here; a newer one may still work
            trouble = rejected
        await self._follow_tracks()
        result = await self._take(await self._source.read(), first)
        if trouble is not None and (self._in_force is None or self._in_force.state is not self._shared.state):
            raise trouble
        return result

    async def _follow(self) -> None:
        """Put the accepted state in force, from here or another replica, if it is not in force yet."""
        state, mine = self._shared.state, self._in_force
        if state is None:
            return
        if mine is not None and _serves_alike(mine.state, state):
            self._in_force = replace(mine, state=state)
            await self._serve(mine.snapshot)  # missing bundles may be here by now
            return
        resolve = VersionChoice(self._models.versions, state.latest, state.tracks).resolve
        snapshot = await self._models.look(lambda: ExperimentsSnapshot(state.file.config, state.file.digest, resolve))
        await self._serve(snapshot)
        self._put_in_force("experiments_adopted", state, snapshot)

    async def _follow_tracks(self) -> None:
        """Serve what was promoted since; a promotion that cannot be served leaves the version in force."""
        mine = self._in_force
        wanted = tracks_of(mine.state.file.config) if mine is not None else ()
        if mine is None or not wanted or self._shared.state is not mine.state:
            return
        try:
            promoted = await self._models.look(lambda: self._tracks.promoted(wanted))
            for track, version in promoted.items():
                if self.tracks.get(track) != version and self._tracks.may_move(track, version):
                    await self._move(track, version)
        except Rejected as rejected:
            self._audit.trouble("tracks_not_read", b"", problems=rejected.problems)

    async def _move(self, track: str, version: str) -> None:
        """Put a promoted version in force, here and, by the shared state, on the other replicas."""
        assert self._in_force is not None
        before = self._in_force.state
        state = moved(before, track, version)
        resolve = VersionChoice(self._models.versions, state.latest, state.tracks).resolve
        snapshot = await self._models.look(lambda: ExperimentsSnapshot(state.file.config, state.file.digest, resolve))
        try:
            await self._models.make_ready(snapshot)
            is_first = await self._shared.commit(state)
        except (Rejected, StateUnavailable) as error:
            problems = error.problems if isinstance(error, Rejected) else (str(error),)
            self._refuse(track, version, problems)
            return
        if not is_first:  # another replica was first, with this promotion or another
            await self._shared.look()
            await self._follow()
            return
        self._in_force = _InForce(state, snapshot)
        self._source.settle(state.revision)
        self._audit.moved(track, before.tracks.get(track), version, state.revision)
        self._observer.track_moved("taken")
        await self._serve(snapshot)

    def _refuse(self, track: str, version: str, problems: Sequence[str]) -> None:
        self._tracks.refuse(track, version)
        self._observer.track_moved("refused")
        self._audit.trouble(
            "track_refused", f"{track}@{version}".encode(), track=track, version=version,
            version_in_force=self.tracks.get(track), problems=tuple(problems),
        )  # fmt: skip

    async def _take(self, file: ExperimentFile, first: bool) -> ReloadResult:
        """Compare the file on this machine with the accepted one, and propose it if it is new."""
        state = self._shared.state
        if state is None:
            return await self._propose(file)
        if file.digest == state.file.digest:
            was_known = self._source.settle(state.revision)
            if first and await self._is_newer_model_there(file, state):
                return await self._propose(file)
            return "unchanged" if was_known else "adopted" if first else "accepted"
        if self._source.is_older(file, state):
            self._audit.trouble(
                "experiments_file_superseded",
                self._source.identity,
                digest=file.digest,
                digest_in_force=state.file.digest,
            )
            return "superseded"
        return await self._propose(file)

    async def _is_newer_model_there(self, file: ExperimentFile, state: State) -> bool:
        """Return whether a start would resolve `latest` otherwise, while no experiment runs that it would affect."""
        if is_any_live(file.config, self._shared.now_ms):
            return False
        latest = VersionChoice(self._models.versions, {}, state.tracks)
        await self._models.look(lambda: ExperimentsSnapshot(file.config, file.digest, latest.resolve))
        return latest.chosen != dict(state.latest)

    async def _propose(self, file: ExperimentFile) -> ReloadResult:
        for _ in range(_TRIES):
            state, snapshot = await self._models.look(lambda: self._judge(file))
            await self._models.make_ready(snapshot)
            try:
                is_first = await self._shared.commit(state)
            except StateUnavailable as error:
                raise Rejected("state_unavailable", [str(error)]) from error
            if is_first:
                self._put_in_force("experiments_accepted", state, snapshot)
                self._source.settle(state.revision)
                await self._serve(snapshot)
                return "accepted"
            await self._shared.look()
            await self._follow()
            now = self._shared.state
            if now is not None and now.file.digest == file.digest:
                self._source.settle(now.revision)
                return "adopted"
        raise Rejected("state_unavailable", ["other replicas accept other files all the time"])

    def _judge(self, file: ExperimentFile) -> tuple[State, ExperimentsSnapshot]:
        problems, state = propose(self._shared.state, file, self._shared.now_ms)
        if state is None:
            raise self._source.refusal(problems)
        wanted = tracks_of(file.config)
        tracks = {**self._tracks.promoted(wanted - state.tracks.keys()), **state.tracks}
        if missing := sorted(wanted - tracks.keys()):
            raise Rejected("not_servable", [f"track {one}: nothing was promoted to it yet" for one in missing])
        latest = VersionChoice(self._models.versions, state.latest, tracks)
        snapshot = ExperimentsSnapshot(file.config, file.digest, latest.resolve)
        return replace(state, latest=latest.chosen, tracks=tracks), snapshot

    async def _serve(self, snapshot: ExperimentsSnapshot) -> None:
        missing = await self._models.serve(snapshot)
        if missing:
            self._audit.trouble("experiments_models_missing", self._source.identity, problems=missing)

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

    def _put_in_force(self, event: str, state: State, snapshot: ExperimentsSnapshot) -> None:
        old = self._in_force.state.file if self._in_force is not None else None
        self._audit.accepted(event, old, state, self._source.owner)
        self._in_force = _InForce(state, snapshot)

    def _audit_rejection(self, rejected: Rejected) -> None:
        self._audit.trouble(
            "experiments_rejected",
            self._source.identity,
            owner=self._source.owner,
            result=rejected.result,
            problems=rejected.problems,
            digest_in_force=self._in_force.state.file.digest if self._in_force is not None else None,
        )


def _serves_alike(one: State, other: State) -> bool:
    same = dict(one.latest) == dict(other.latest) and dict(one.tracks) == dict(other.tracks)
    return same and one.file.digest == other.file.digest
