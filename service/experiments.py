"""The running experiments: read from a file, checked against the last accepted one, swapped by one reference.

Order of a reload: read, validate, compare with the file in force, make the models ready, swap. Whatever fails, the last
good snapshot stays. One audit line for each attempt that says something new.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import structlog

from contract.assignment import UNDECIDED, Decision, ExperimentsSnapshot
from contract.experiments import MAX_FILE_BYTES, ExperimentsError, Parameters, parse_experiments
from contract.ramps import changes, is_live, refusals
from service.experiment_file import parse_file

LATEST: Final = "latest"
ReloadResult = Literal["accepted", "unchanged", "unreadable", "invalid", "refused", "not_servable"]
Models = frozenset[tuple[str, str]]  # (model, version)

_AUDIT_CHANGES: Final = 20  # lines of difference in one audit line

_log = structlog.get_logger(__name__)


class ExperimentsObserver(Protocol):
    """Where reloads and assignments are counted (service/metrics.py)."""

    def experiments_reloaded(self, result: str) -> None:
        """Count an attempt to load the file, by result."""

    def experiments_in_force(self, digest: str, revision: str) -> None:
        """Note which file is in force, and that it was known to be good just now."""

    def assigned(self, decision: Decision) -> None:
        """Count what each layer decided."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    snapshot: ExperimentsSnapshot
    identity: bytes  # digest of the file's bytes, comments and all: what tells whether it changed
    latest: Mapping[str, str]  # what "latest" was resolved to, by model


class _Rejected(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, result: ReloadResult, problems: Sequence[str], identity: bytes = b"") -> None:
        self.result, self.problems, self.identity = result, tuple(problems), identity


class Experiments:
    """The experiments in force.

    Args:
        path: the YAML or JSON file; None for one layer that serves `default_model` to all.
        versions: the versions of a model that can be served, oldest first; none of an unknown model.
        observer: counts reloads and assignments.
        default_model: served where there is no file.
        prepare: loads and warms models before a file is accepted; raises ExperimentsError where one does not serve.
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
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._path, self._default_model = path, default_model
        self._versions, self._prepare = versions, prepare
        self._observer, self._now_ms = observer, now_ms
        self._accepted: _Accepted | None = None
        self._rejected: _Rejected | None = None
        self._poked = asyncio.Event()

    @property
    def snapshot(self) -> ExperimentsSnapshot | None:
        """The experiments in force; None while no file was ever accepted, which is a reason not to be ready."""
        return self._accepted.snapshot if self._accepted is not None else None

    @property
    def models(self) -> Models:
        """Every model that the experiments in force may serve."""
        return _models(self._accepted.snapshot) if self._accepted is not None else frozenset()

    def decide(
        self,
        unit: object,
        attributes: Mapping[str, object],
        now_ms: int,
        forced: Mapping[str, str] | None = None,
    ) -> Decision:
        """Decide every layer for a unit, and count it."""
        if self._accepted is None:
            return UNDECIDED
        decision = self._accepted.snapshot.decide(unit, attributes, now_ms, forced)
        self._observer.assigned(decision)
        return decision

    def undecided(self, reason: Literal["not_ranked", "error"] = "not_ranked") -> Decision:
        """Return the decision of a response that did not rank; counts nothing."""
        return self._accepted.snapshot.undecided(reason) if self._accepted is not None else UNDECIDED

    async def reload(self) -> ReloadResult:
        """Load the file if it has changed; on any fault the last good snapshot stays, and nothing is raised."""
        try:
            result = await self._reload()
        except _Rejected as rejected:
            result = rejected.result
            self._audit_rejection(rejected)
        self._observer.experiments_reloaded(result)
        if result in {"accepted", "unchanged"} and self._accepted is not None:
            config, digest = self._accepted.snapshot.config, self._accepted.snapshot.digest
            self._observer.experiments_in_force(digest, config.revision)
        return result

    async def watch(self, interval_seconds: float) -> None:
        """Reload by content every so often, and at once when poked; runs until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._poked.wait(), interval_seconds)
            self._poked.clear()
            await self.reload()

    def poke(self) -> None:
        """Make `watch` look at the file now (SIGHUP)."""
        self._poked.set()

    async def _reload(self) -> ReloadResult:
        content = await asyncio.to_thread(self._read)
        identity = hashlib.sha256(content).digest()
        if self._accepted is not None and identity == self._accepted.identity:
            self._rejected = None
            return "unchanged"
        # A file that breaks a rule of its own breaks it again: it is parsed again only once it has changed.
        if self._rejected is not None and (self._rejected.result, self._rejected.identity) == ("invalid", identity):
            return "invalid"
        accepted = await asyncio.to_thread(self._build, content, identity)
        await self._make_ready(accepted)
        self._audit_acceptance(accepted.snapshot)
        self._accepted, self._rejected = accepted, None
        return "accepted"

    def _read(self) -> bytes:
        if self._path is None:
            return json.dumps(_built_in(self._default_model)).encode()
        try:
            with self._path.open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise _Rejected("unreadable", [f"cannot be read ({error.strerror})"]) from error

    def _build(self, content: bytes, identity: bytes) -> _Accepted:
        try:
            config, digest = parse_experiments(parse_file(content))
        except ExperimentsError as error:
            raise _Rejected("invalid", error.problems, identity) from error
        now_ms = self._now_ms()
        if self._accepted is not None:
            old = self._accepted.snapshot.config
            refused = refusals(old, config, now_ms)
            if refused:
                raise _Rejected("refused", refused, identity)
            # While anything runs, "latest" stays what it was when it started: an arm must not change its model.
            runs = any(is_live(experiment, now_ms) for layer in old.layers for experiment in layer.experiments)
            latest = _Latest(self._versions, self._accepted.latest if runs else {})
        else:
            latest = _Latest(self._versions, {})
        return _Accepted(ExperimentsSnapshot(config, digest, latest.resolve), identity, latest.chosen)

    async def _make_ready(self, accepted: _Accepted) -> None:
        wanted = _models(accepted.snapshot)
        missing = sorted(f"{model}@{version}" for model, version in wanted if version not in self._versions(model))
        if missing:
            raise _Rejected("not_servable", [f"no such model: {name}" for name in missing], accepted.identity)
        if self._prepare is not None:
            try:
                await self._prepare(wanted)
            except ExperimentsError as error:
                raise _Rejected("not_servable", error.problems, accepted.identity) from error

    def _audit_acceptance(self, new: ExperimentsSnapshot) -> None:
        old = self._accepted.snapshot if self._accepted is not None else None
        differences = changes(old.config, new.config) if old is not None else []
        _log.info(
            "experiments_accepted",
            owner=self._owner(),
            old_digest=old.digest if old is not None else None,
            new_digest=new.digest,
            revision=new.config.revision,
            changes=differences[:_AUDIT_CHANGES],
            change_count=len(differences),
        )

    def _audit_rejection(self, rejected: _Rejected) -> None:
        before, self._rejected = self._rejected, rejected
        if before is not None and (before.identity, before.problems) == (rejected.identity, rejected.problems):
            return  # said already; the counter goes on
        _log.error(
            "experiments_rejected",
            owner=self._owner(),
            result=rejected.result,
            problems=rejected.problems,
            digest_in_force=self._accepted.snapshot.digest if self._accepted is not None else None,
        )

    def _owner(self) -> int | None:
        """Return the user number of the file's owner: who answers for the change, as far as a file can tell."""
        if self._path is None:
            return None
        try:
            return self._path.stat().st_uid
        except OSError:
            return None


class _Latest:
    """Resolves `version: latest` (or a layer that names a model and no version) once per file, model by model."""

    def __init__(self, versions: Callable[[str], Sequence[str]], fixed: Mapping[str, str]) -> None:
        self._versions = versions
        self.chosen = dict(fixed)

    def resolve(self, parameters: Parameters) -> Parameters:
        """Return the parameters with an existing version in place of "latest"; as they are where there is none."""
        model = parameters.get("model")
        if not isinstance(model, str) or parameters.get("version", LATEST) != LATEST:
            return parameters
        if model not in self.chosen:
            known = self._versions(model)
            if not known:
                return {**parameters, "version": LATEST}
            self.chosen[model] = known[-1]
        return {**parameters, "version": self.chosen[model]}


def _models(snapshot: ExperimentsSnapshot) -> Models:
    parameters = [layer.defaults for layer in snapshot.layers]
    parameters += [
        arm for layer in snapshot.layers for one in layer.experiments if not one.stopped for arm in one.parameters
    ]
    return frozenset((str(one["model"]), str(one.get("version", LATEST))) for one in parameters if "model" in one)


def _built_in(model: str) -> dict[str, object]:
    """Return the experiments of a service that was given none: one layer, everybody unallocated."""
    defaults = {"model": model, "version": LATEST}
    return {"schema": 1, "revision": "built-in", "layers": [{"key": "rank", "salt": "rank", "defaults": defaults}]}
