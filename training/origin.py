"""The beginning of a run, and the rows that it may learn: `origin.json` of a run that is not a plain training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from contract.files import BadFileError, read_object, write_json

ORIGIN: Final = "origin.json"
FitKind = Literal["validated", "all"]


@dataclass(frozen=True)
class Origin:
    """The beginning of a run.

    Attributes:
        fit: validated: some rows are held out and judge the weights; all: every row is learnt, none judges.
        validated_by: the run whose figures and number of epochs a fit of all rows takes over; "" = none.
        started_from: the run whose weights it starts with; "" = fresh weights.
        until_ms: interactions at or after this time do not exist for the run; None = all exist.
    """

    fit: FitKind = "validated"
    validated_by: str = ""
    started_from: str = ""
    until_ms: int | None = None

    def write(self, run: Path) -> None:
        """Write the file, unless this is a plain training."""
        if self != Origin():
            write_json(run / ORIGIN, asdict(self))


PLAIN: Final = Origin()


def read_origin(run: Path) -> Origin:
    """Read the origin of a run; that of a plain training has no file.

    Raises:
        BadFileError: the file is damaged.
    """
    if not (run / ORIGIN).exists():
        return Origin()
    document = read_object(run / ORIGIN)
    try:
        return Origin(**document)
    except TypeError:
        raise BadFileError(f"{run / ORIGIN}: damaged: {sorted(document)}") from None
