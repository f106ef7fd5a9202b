"""The running experiments: the file is read, judged by all that was accepted before, and swapped by one reference.

Order of a look: follow what other replicas accepted; read the file; validate it; judge it (contract/ramps.py); make its
models ready; agree on it with the other replicas (shared_state.py); swap. Whatever fails, the last accepted experiments
stay. One audit line for each attempt that says something new.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Protocol

import structlog

from contract.assignment import UNDECIDED, Decision, ExperimentsSnapshot
from contract.experiments import MAX_FILE_BYTES, ExperimentsError
from contract.history import ExperimentFile, State
from contract.ramps import changes, is_any_live, propose
from service.arm_models import Latest, Models, built_in, default_models_of, models_of
from service.detached import Detached
from service.experiment_file import read_experiments, with_lines
from service.shared_state import SharedState
from service.state_stores import StateUnavailable

__all__ = ["Experiments", "ExperimentsObserver", "Models", "ReloadResult"]

ReloadResult = Literal[
    "accepted", "unchanged", "adopted", "superseded",
    "unreadable", "invalid", "refused", "not_servable", "state_unavailable",
]  # fmt: skip
"""What came of a look. `adopted`: another replica accepted this file first. `superseded`: the file on this machine is
older than the accepted one."""

_AUDIT_CHANGES: Final = 20  # lines of difference in one audit line
_TRIES: Final = 4  # of a file in one look, where other replicas accept files too
_READ_SECONDS: Final = 10.0  # for the file: a network mount may hang

_log = structlog.get_logger(__name__)


class ExperimentsObserver(Protocol):
    """Where reloads and assignments are counted (service/metrics.py)."""

    def experiments_reloaded(self, result: str) -> None:
        """Count an attempt to load the file, by result."""

    def experiments_in_force(self, digest: str, revision: str) -> None:
        """Note which file is in force."""

    def experiments_state(self, *, revision: int, is_shared: bool, is_file_in_force: bool) -> None:
        """Note how the state in force relates to the other replicas and to the file on this machine."""

    def assigned(self, decision: Decision) -> None:
        """Count what each layer decided."""


@dataclass(frozen=True, slots=True)
class _InForce:
    state: State
    snapshot: ExperimentsSnapshot


class _Rejected(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, result: ReloadResult, problems: Sequence[str]) -> None:
        self.result, self.problems = result, tuple(problems)


class _Disk:
    """The file on this machine, and how far it has come in the sequence of accepted files."""

    def __init__(self) -> None:
        self.identity = b""  # digest of the bytes, comments and all: tells whether the file changed
        self.content = b""
        self.parsed: ExperimentFile | tuple[str, ...] | None = None  # problems where it breaks a rule of its own
        self.done = b""  # the identity that needs no more judging: it was accepted once
        self.revision = -1  # the revision at which this file was accepted


class Experiments:
    """The experiments in force.

    Args:
        path: the YAML or JSON file; None for one layer that serves `default_model` to all.
        versions: the versions of a model that can be served, oldest first; none of an unknown model.
        observer: counts reloads and assignments.
        default_model: served where there is no file.
        prepare: loads and warms models before a file is accepted; raises ExperimentsError where one does not serve.
        shared: what was accepted before, here or by other replicas; None remembers it in this process.
        now_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        versions: Callable[[str], Sequence[str]],
        observer: ExperimentsObserver,
        default_model: str = "",
        prepare: Callable[[Models], Awaitable[None]] | None = None,
        shared: SharedState | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._path, self._default_model = path, default_model
        self._versions, self._prepare = versions, prepare
        self._observer = observer
        self._shared = shared if shared is not None else SharedState(now_ms=now_ms)
        self._detached = Detached("experiment-file")
        self._in_force: _InForce | None = None
        self._ready: Models = frozenset()
        self._disk = _Disk()
        self._said: dict[str, tuple[object, ...]] = {}
        self._problems: tuple[str, ...] = ()
        self._poked = asyncio.Event()
        self._is_loading = False  # models of a file that is not accepted yet

    @property
    def snapshot(self) -> ExperimentsSnapshot | None:
        """The experiments in force; None while no file was ever accepted, which is a reason not to be ready."""
        return self._in_force.snapshot if self._in_force is not None else None

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the last look accepted nothing; empty where it did."""
        return self._problems

    @property
    def models(self) -> Models:
        """Every model that the experiments in force may serve."""
        return models_of(self._in_force.snapshot) if self._in_force is not None else frozenset()

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
        decision = self._in_force.snapshot.decide(unit, attributes, now_ms, forced)
        self._observer.assigned(decision)
        return decision

    def undecided(self, reason: Literal["not_ranked", "error"] = "not_ranked") -> Decision:
        """Return the decision of a response that did not rank; counts nothing."""
        return self._in_force.snapshot.undecided(reason) if self._in_force is not None else UNDECIDED

    async def reload(self) -> ReloadResult:
        """Look once; on any fault the last accepted experiments stay, and nothing is raised."""
        try:
            result = await self._look()
            self._problems = ()
            self._said.pop("experiments_rejected", None)
        except _Rejected as rejected:
            result, self._problems = rejected.result, rejected.problems
            self._audit_rejection(rejected)
        self._observer.experiments_reloaded(result)
        self._observe(is_file_in_force=result in {"accepted", "unchanged", "adopted"})
        return result

    async def watch(self, interval_seconds: float) -> None:
        """Look every so often, and at once when poked; runs until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._poked.wait(), interval_seconds)
            self._poked.clear()
            await self._reload_unless_changed(interval_seconds)

    def poke(self) -> None:
        """Make `watch` look now (SIGHUP)."""
        self._poked.set()

    async def _reload_unless_changed(self, interval_seconds: float) -> None:
        """Look once, and give up the loading of a new file's models when the file changes again meanwhile.

        Loading may take as long as a bundle's time limit; a mended file need not wait for that.
        """
        looking = asyncio.ensure_future(self.reload())
        try:
            while not (await asyncio.wait({looking}, timeout=interval_seconds))[0]:
                if self._is_loading and await self._has_changed():
                    _log.warning("experiments_loading_given_up")
                    self._poked.set()
                    return
            looking.result()
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def _has_changed(self) -> bool:
        """Return whether the file on this machine is another one than the one being loaded."""
        with suppress(_Rejected):
            return hashlib.sha256(await self._content()).digest() != self._disk.identity
        return False

    async def _look(self) -> ReloadResult:
        await self._shared.look()
        first = self._in_force is None
        try:
            await self._follow()
        except _Rejected as rejected:  # what was accepted cannot be served here; a newer file may still do
            result = await self._propose(await self._read_file())
            if result != "accepted":
                raise rejected from None
            return result
        return await self._take(await self._read_file(), first)

    async def _follow(self) -> None:
        """Put in force what was accepted, here or elsewhere, if it is not in force yet."""
        state, mine = self._shared.state, self._in_force
        if state is None:
            return
        if mine is not None and _serves_alike(mine.state, state):
            self._in_force = replace(mine, state=state)
            await self._serve(mine.snapshot)  # what was missing may be here by now
            return
        resolve = Latest(self._versions, state.latest).resolve
        snapshot = ExperimentsSnapshot(state.file.config, state.file.digest, resolve)
        await self._serve(snapshot)
        self._audit_acceptance("experiments_adopted", state)
        self._in_force = _InForce(state, snapshot)

    async def _read_file(self) -> ExperimentFile:
        """Return the file on this machine; it is parsed again only once it has changed."""
        content = await self._content()
        identity = hashlib.sha256(content).digest()
        disk = self._disk
        if disk.parsed is None or identity != disk.identity:
            disk.identity, disk.content = identity, content
            disk.parsed = await asyncio.to_thread(_parsed, content)
        if isinstance(disk.parsed, tuple):
            raise _Rejected("invalid", disk.parsed)
        return disk.parsed

    async def _content(self) -> bytes:
        path = self._path
        if path is None:
            return json.dumps(built_in(self._default_model)).encode()
        try:
            return await self._detached.run(lambda: _read(path), _READ_SECONDS)
        except OSError as error:  # TimeoutError too
            raise _Rejected("unreadable", [f"cannot be read ({error.strerror or 'it takes too long'})"]) from error

    async def _take(self, file: ExperimentFile, first: bool) -> ReloadResult:
        """Compare the file on this machine with the accepted one, and propose it where it is news."""
        state, disk = self._shared.state, self._disk
        if state is None:
            return await self._propose(file)
        if file.digest == state.file.digest:
            known, disk.done, disk.revision = disk.done, disk.identity, state.revision
            if first and await self._is_newer_model_there(file, state):
                return await self._propose(file)
            return "unchanged" if known == disk.identity else "accepted" if not first else "adopted"
        if disk.identity == disk.done:
            return "superseded"
        accepted_at = state.accepted_at(file.digest, disk.revision)
        if accepted_at is not None:
            # This machine gets its files later than others: it follows, and does not take the experiments back.
            disk.done, disk.revision = disk.identity, accepted_at
            _log.warning("experiments_file_superseded", digest=file.digest, digest_in_force=state.file.digest)
            return "superseded"
        return await self._propose(file)

    async def _is_newer_model_there(self, file: ExperimentFile, state: State) -> bool:
        """Say whether a start would resolve `latest` otherwise, while no experiment runs that could notice."""
        if is_any_live(file.config, self._shared.now_ms):
            return False
        latest = Latest(self._versions, {})
        await asyncio.to_thread(ExperimentsSnapshot, file.config, file.digest, latest.resolve)
        return latest.chosen != dict(state.latest)

    async def _propose(self, file: ExperimentFile) -> ReloadResult:
        for _ in range(_TRIES):
            state, snapshot = await asyncio.to_thread(self._judge, file)
            await self._make_ready(snapshot)
            try:
                is_first = await self._shared.commit(state)
            except StateUnavailable as error:
                raise _Rejected("state_unavailable", [str(error)]) from error
            if is_first:
                self._audit_acceptance("experiments_accepted", state)
                self._in_force = _InForce(state, snapshot)
                self._disk.done, self._disk.revision = self._disk.identity, state.revision
                await self._serve(snapshot)
                return "accepted"
            await self._shared.look()
            await self._follow()
            now = self._shared.state
            if now is not None and now.file.digest == file.digest:
                self._disk.done, self._disk.revision = self._disk.identity, now.revision
                return "adopted"
        raise _Rejected("state_unavailable", ["other replicas accept other files all the time"])

    def _judge(self, file: ExperimentFile) -> tuple[State, ExperimentsSnapshot]:
        problems, state = propose(self._shared.state, file, self._shared.now_ms)
        if state is None:
            raise _Rejected("refused", [one.text for one in with_lines(self._disk.content, problems)])
        latest = Latest(self._versions, state.latest)
        snapshot = ExperimentsSnapshot(file.config, file.digest, latest.resolve)
        return replace(state, latest=latest.chosen), snapshot

    async def _make_ready(self, snapshot: ExperimentsSnapshot) -> None:
        """Load what a new file needs beside what is served: it may still be refused."""
        wanted = models_of(snapshot)
        missing = sorted(f"{model}@{version}" for model, version in wanted if version not in self._versions(model))
        if missing:
            raise _Rejected("not_servable", [f"no such model: {name}" for name in missing])
        if self._prepare is not None and not wanted <= self._ready:
            self._is_loading = True
            try:
                await self._prepare(wanted | self._ready)
                self._ready |= wanted
            except ExperimentsError as error:
                raise _Rejected("not_servable", error.problems) from error
            finally:
                self._is_loading = False

    async def _serve(self, snapshot: ExperimentsSnapshot) -> None:
        """Serve the models of accepted experiments; an arm whose model is not here is served its layer's default.

        The arm of a user must not depend on the replica, so only a missing default keeps a state out of force.
        """
        wanted = models_of(snapshot)
        if self._prepare is None or wanted == self._ready:
            return
        try:
            await self._prepare(wanted)
            self._ready = wanted
        except ExperimentsError as error:
            self._ready = await self._serve_most(wanted, self._prepare)
            if not default_models_of(snapshot) <= self._ready:
                raise _Rejected("not_servable", error.problems) from error
            self._say("experiments_models_missing", problems=error.problems)

    async def _serve_most(self, wanted: Models, prepare: Callable[[Models], Awaitable[None]]) -> Models:
        served = self._ready
        for model in sorted(wanted - served):
            with suppress(ExperimentsError):
                await prepare(served | {model})
                served |= {model}
        return served

    def _observe(self, *, is_file_in_force: bool) -> None:
        if self._in_force is None:
            return
        state = self._in_force.state
        self._observer.experiments_in_force(state.file.digest, state.file.config.revision)
        self._observer.experiments_state(
            revision=state.revision,
            is_shared=self._path is None or self._shared.is_shared,
            is_file_in_force=is_file_in_force,
        )

    def _audit_acceptance(self, event: str, new: State) -> None:
        old = self._in_force.state.file if self._in_force is not None else None
        differences = changes(old.config, new.file.config) if old is not None else []
        _log.info(
            event,
            owner=self._owner(),
            old_digest=old.digest if old is not None else None,
            new_digest=new.file.digest,
            revision=new.file.config.revision,
            state_revision=new.revision,
            changes=differences[:_AUDIT_CHANGES],
            change_count=len(differences),
        )

    def _audit_rejection(self, rejected: _Rejected) -> None:
        digest = self._in_force.state.file.digest if self._in_force is not None else None
        self._say(
            "experiments_rejected",
            owner=self._owner(),
            result=rejected.result,
            problems=rejected.problems,
            digest_in_force=digest,
        )

    def _say(self, event: str, **details: object) -> None:
        """Log a trouble once for as long as it stays the same; the counter goes on."""
        said = (event, str(details.get("problems")), self._disk.identity)
        if self._said.get(event) != said:
            self._said[event] = said
            _log.error(event, **details)

    def _owner(self) -> int | None:
        """Return the user number of the file's owner: who answers for the change, as far as a file can tell."""
        if self._path is None:
            return None
        try:
            return self._path.stat().st_uid
        except OSError:
            return None


def _serves_alike(one: State, other: State) -> bool:
    return one.file.digest == other.file.digest and dict(one.latest) == dict(other.latest)


def _parsed(content: bytes) -> ExperimentFile | tuple[str, ...]:
    try:
        return read_experiments(content)
    except ExperimentsError as error:
        return error.problems


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)
