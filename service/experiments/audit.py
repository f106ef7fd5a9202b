"""What the log says of experiments: one line for each attempt that says something new."""

from __future__ import annotations

from typing import Final

import structlog

from contract.history import ExperimentFile, State
from contract.ramps import changes

_AUDIT_CHANGES: Final = 20  # lines of difference in one audit line

_log = structlog.get_logger(__name__)


class Audit:
    """Writes the audit lines; a trouble that stays the same is told once."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[object, ...]] = {}

    def accepted(self, event: str, old: ExperimentFile | None, new: State, owner: int | None) -> None:
        """Tell that experiments were put in force, and what they change."""
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

    def trouble(self, event: str, identity: bytes, **details: object) -> None:
        """Tell a trouble, unless it was told of this file; the counter goes on."""
        told = (identity, details.get("problems"))
        if self._told.get(event) != told:
            self._told[event] = told
            _log.error(event, **details)

    def is_over(self, event: str) -> None:
        """Forget a trouble: if it comes back, it is told again."""
        self._told.pop(event, None)
