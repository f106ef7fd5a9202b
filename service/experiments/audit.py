"""Log lines about experiments: one line for each attempt with news."""

from __future__ import annotations

from typing import Final

import structlog

from contract.experiments.history import ExperimentFile, State
from contract.experiments.ramps import changes

_AUDIT_CHANGES: Final = 20  # lines of difference in one audit line

_log = structlog.get_logger(__name__)


class Audit:
    """Writes the audit lines; a problem that stays the same is logged once."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[object, ...]] = {}

    def accepted(self, event: str, old: ExperimentFile | None, new: State, owner: int | None) -> None:
        """Log that experiments were put in force, and their changes."""
        differences = changes(old.config, new.file.config) if old is not None else []
        _log.info(
            event,
            owner=owner,
            old_digest=old.digest if old is not None else None,
            new_digest=new.file.digest,
            revision=new.file.config.revision,
            state_revision=new.revision,
            changes=differences[:_AUDIT_CHANGES],
            change_count=len(differences),
        )

    def moved(self, track: str, before: str | None, version: str, revision: int) -> None:
        """Log that another version of a track is in force."""
        _log.info("track_moved", track=track, old_version=before, version=version, state_revision=revision)

    def trouble(self, event: str, identity: bytes, **details: object) -> None:
        """Log a problem, unless it was logged for this file; the counter still counts."""
        told = (identity, details.get("problems"))
        if self._told.get(event) != told:
            self._told[event] = told
            _log.error(event, **details)

    def is_over(self, event: str) -> None:
        """Forget a problem, so that it is logged again if it comes back."""
        self._told.pop(event, None)
