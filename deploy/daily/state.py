"""The record of a day: its finished steps, and what they made. Written after each step: a kill loses at most one."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from contract.command_line import CommandError
from contract.files import write_json

Status = Literal["running", "promoted", "refused"]
Facts = dict[str, Any]  # JSON


class StateError(CommandError, ValueError):
    """The loop's own files are damaged; the message names the file."""


class BusyError(CommandError):
    """Another call is running."""


class Day(BaseModel):
    """A day's record.

    Attributes:
        recipe: digest of the recipe file; another recipe starts with fresh weights.
        figures: of the candidate, the bundle in force and the baselines on the newest hours.
        steps: facts of the steps that are done, by name.
    """

    model_config = ConfigDict(extra="forbid")

    day: date
    recipe: str
    status: Status = "running"
    reason: str = ""
    figures: Facts = {}
    steps: dict[str, Facts] = {}


class Days:
    """The records of a track, one file a day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, day: date) -> Day | None:
        """Return a day's record, if there is one.

        Raises:
            StateError: it is damaged.
        """
        path = self._file(day)
        try:
            return Day.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise StateError(f"{path}: damaged: {error.errors()[0]['msg']}; remove it to begin the day again") from None

    def write(self, record: Day) -> None:
        """Replace a day's record in one step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._file(record.day), record.model_dump(mode="json"))

    def known(self) -> list[date]:
        """Return the days that have a record, in order."""
        return sorted(date.fromisoformat(path.stem) for path in self.folder.glob("????-??-??.json"))

    def last_promoted(self, before: date) -> Day | None:
        """Return the newest promoted day before a day."""
        for day in reversed([one for one in self.known() if one < before]):
            record = self.read(day)
            if record is not None and record.status == "promoted":
                return record
        return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the track's lock; the system releases it when the process ends, however it ends.

        Raises:
            BusyError: another process has it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(f"another call is running: it has the lock {file.name}") from None
            yield

    def _file(self, day: date) -> Path:
        return self.folder / f"{day.isoformat()}.json"
