"""The steps from a file to experiments in force.

Follow what other replicas accepted; read the file; validate it; check it against earlier files
(contract/experiments/ramps.py); make its models ready; agree on it with the other replicas (shared_state.py); swap.
A promotion of a track (tracks.py) takes the same way from "make its models ready" on, with the file in force.
If a step fails, the last accepted experiments stay. Each attempt with news writes one audit line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.history import ExperimentFile, State, moved
from contract.experiments.ramps import is_any_live, propose
from contract.experiments.tracks import tracks_of
from service.experiments.arm_loading import ArmModels
from service.experiments.arm_models import VersionChoice
from service.experiments.audit import Audit
from service.experiments.shared_state import SharedState
from service.experiments.source import ExperimentSource, Rejected, ReloadResult
from service.experiments.state_stores import StateUnavailable
from service.experiments.tracks import Tracks
from service.metrics import Metrics

_TRIES: Final = 4  # of a file in one check, if other replicas accept files too


@dataclass(frozen=True, slots=True)
class InForce:
    """An accepted state, and the snapshot that decides by it."""

    state: State
    snapshot: ExperimentsSnapshot


class Acceptance:
    """The state in force, and the steps that change it.

    Attributes:
        in_force: None until a file is accepted.
    """

    def __init__(
        self,
        source: ExperimentSource,
        models: ArmModels,
        tracks: Tracks,
        shared: SharedState,
        audit: Audit,
        observer: Metrics,
    ) -> None:
        self.in_force: InForce | None = None
        self._source, self._models, self._tracks, self._shared = source, models, tracks, shared
        self._audit, self._observer = audit, observer

    async def look(self) -> ReloadResult:
        """Check once.

        Raises:
            Rejected: nothing new is in force; what was in force still is.
        """
        await self._shared.look()
        first = self.in_force is None
        trouble: Rejected | None = None
        try:
            await self._follow()
        except Rejected as rejected:  # the accepted file cannot be served here; a newer one may still work
            trouble = rejected
        await self._follow_tracks()
        result = await self._take(await self._source.read(), first)
        if trouble is not None and (self.in_force is None or self.in_force.state is not self._shared.state):
            raise trouble
        return result

    async def _follow(self) -> None:
        """Put the accepted state in force, from here or another replica, if it is not in force yet."""
        state, mine = self._shared.state, self.in_force
        if state is None:
            return
        if mine is not None and _serves_alike(mine.state, state):
            self.in_force = replace(mine, state=state)
            await self._serve(mine.snapshot)  # missing bundles may be here by now
            return
        resolve = VersionChoice(self._models.versions, state.latest, state.tracks).resolve
        snapshot = await self._models.look(lambda: ExperimentsSnapshot(state.file.config, state.file.digest, resolve))
        await self._serve(snapshot)
        self._put_in_force("experiments_adopted", state, snapshot)

    async def _follow_tracks(self) -> None:
        """Serve what was promoted since; a promotion that cannot be served leaves the version in force."""
        mine = self.in_force
        wanted = tracks_of(mine.state.file.config) if mine is not None else ()
        if mine is None or not wanted or self._shared.state is not mine.state:
            return
        try:
            promoted = await self._models.look(lambda: self._tracks.promoted(wanted))
            for track, version in promoted.items():
                if self._version_of(track) != version and self._tracks.may_move(track, version):
                    await self._move(track, version)
        except Rejected as rejected:
            self._audit.trouble("tracks_not_read", b"", problems=rejected.problems)

    async def _move(self, track: str, version: str) -> None:
        """Put a promoted version in force, here and, by the shared state, on the other replicas."""
        assert self.in_force is not None
        before = self.in_force.state
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
        self.in_force = InForce(state, snapshot)
        self._source.settle(state.revision)
        self._audit.moved(track, before.tracks.get(track), version, state.revision)
        self._observer.track_moved("taken")
        await self._serve(snapshot)

    def _refuse(self, track: str, version: str, problems: Sequence[str]) -> None:
        self._tracks.refuse(track, version)
        self._observer.track_moved("refused")
        self._audit.trouble(
            "track_refused", f"{track}@{version}".encode(), track=track, version=version,
            version_in_force=self._version_of(track), problems=tuple(problems),
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

    def _put_in_force(self, event: str, state: State, snapshot: ExperimentsSnapshot) -> None:
        old = self.in_force.state.file if self.in_force is not None else None
        self._audit.accepted(event, old, state, self._source.owner)
        self.in_force = InForce(state, snapshot)

    def _version_of(self, track: str) -> str | None:
        """Return the version in force of a track."""
        return self.in_force.state.tracks.get(track) if self.in_force is not None else None


def _serves_alike(one: State, other: State) -> bool:
    same = dict(one.latest) == dict(other.latest) and dict(one.tracks) == dict(other.tracks)
    return same and one.file.digest == other.file.digest
