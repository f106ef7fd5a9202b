"""The experiment file on this machine: read without trust in the disk, and parsed once for each change."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from contract.experiments.file import read_experiments, with_lines
from contract.experiments.history import ExperimentFile, State
from contract.experiments.parse import MAX_FILE_BYTES
from contract.experiments.problems import ExperimentsError, Problem
from service.experiments.arm_models import built_in
from service.flow.threads import Detached

ReloadResult = Literal[
    "accepted", "unchanged", "adopted", "superseded",
    "unreadable", "invalid", "refused", "not_servable", "state_unavailable",
]  # fmt: skip
"""The result of a check. `adopted`: another replica accepted this file first. `superseded`: the file on this machine is
older than the accepted one."""


class Rejected(Exception):  # noqa: N818 - an outcome of a look, and not a mistake
    """A file, or an accepted state, cannot be put in force."""

    def __init__(self, result: ReloadResult, problems: Sequence[str]) -> None:
        self.result, self.problems = result, tuple(problems)


class ExperimentSource:
    """The file, and its place in the sequence of accepted files.

    Args:
        path: the file; None for one layer that serves `default_model` to all.
        default_model: served where there is no file.
        read_seconds: time limit for reading; a network mount may hang.
    """

    def __init__(self, path: Path | None, default_model: str, read_seconds: float) -> None:
        self.path = path
        self._default_model, self._read_seconds = default_model, read_seconds
        self._detached = Detached("experiment-file")
        self.identity = b""  # digest of the bytes, comments and all: tells whether the file changed
        self.owner: int | None = None  # user number of the file's owner, for the audit log
        self._content = b""
        self._parsed: ExperimentFile | tuple[str, ...] | None = None  # problems if it breaks a rule of the format
        self._done = b""  # the identity that needs no more checks: it was accepted once
        self._revision = -1  # the revision at which this file was accepted

    async def read(self) -> ExperimentFile:
        """Return the file; it is parsed again only after a change.

        Raises:
            Rejected: it cannot be read, or breaks a rule of the format.
        """
        content = await self._bytes()
        identity = hashlib.sha256(content).digest()
        if self._parsed is None or identity != self.identity:
            self.identity, self._content = identity, content
            self._parsed = await asyncio.to_thread(_parsed, content)
        if isinstance(self._parsed, tuple):
            raise Rejected("invalid", self._parsed)
        return self._parsed

    async def has_changed(self) -> bool:
        """Return whether the file differs from the last read."""
        with suppress(Rejected):
            return hashlib.sha256(await self._bytes()).digest() != self.identity
        return False

    def settle(self, revision: int) -> bool:
        """Note that the file is one that was accepted at a revision; return whether that was known."""
        was_known = self._done == self.identity
        self._done, self._revision = self.identity, revision
        return was_known

    def is_older(self, file: ExperimentFile, state: State) -> bool:
        """Return whether this file was accepted before the one in force, and is not an edit.

        Machines get their files at different times: one that is late follows, and takes nothing back.
        """
        if self._done == self.identity:
            return True
        accepted_at = state.accepted_at(file.digest, self._revision)
        if accepted_at is not None:
            self.settle(accepted_at)
        return accepted_at is not None

    def refusal(self, problems: Sequence[Problem]) -> Rejected:
        """Return the refusal of this file, each problem with its line."""
        return Rejected("refused", [one.text for one in with_lines(self._content, problems)])

    async def _bytes(self) -> bytes:
        path = self.path
        if path is None:
            return json.dumps(built_in(self._default_model)).encode()
        try:
            content, self.owner = await self._detached.run(lambda: _read(path), self._read_seconds)
        except OSError as error:  # TimeoutError too
            raise Rejected("unreadable", [f"cannot be read ({error.strerror or 'it takes too long'})"]) from error
        return content


def _parsed(content: bytes) -> ExperimentFile | tuple[str, ...]:
    try:
        return read_experiments(content)
    except ExperimentsError as error:
        return error.problems


def _read(path: Path) -> tuple[bytes, int]:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1), os.fstat(file.fileno()).st_uid
