"""A track: a line of bundles of one recipe, of which the newest promoted one is served (docs/adr/0233).

The file is `<bundles>/<model>/tracks/<track>.json`. A promotion replaces it in one step; it keeps the earlier ones.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from contract.bundle.manifest import ModelName, Version
from contract.command_line import CommandError, explained
from contract.experiments.fields import TIME_FORMAT
from contract.experiments.tracks import TRACK_PATTERN
from contract.files import write_json

FOLDER: Final = "tracks"
KEPT: Final = 30
"""Earlier promotions in the file; older ones are dropped."""

TrackName = Annotated[str, Field(pattern=TRACK_PATTERN)]
_TIME: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"


class TrackError(CommandError, ValueError):
    """A track cannot be read or named; the message names the file and the reason."""


class Promotion(BaseModel):
    """One promotion.

    Attributes:
        version: of the model's bundles.
        promoted_at: UTC.
        reason: for people, one line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Version
    promoted_at: Annotated[str, Field(pattern=_TIME)]
    reason: Annotated[str, Field(max_length=500)] = ""


class Track(BaseModel):
    """The file: the promotion in force, and those before it, newest first."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    format: Annotated[Literal[1], Field(alias="schema")] = 1
    model: ModelName
    track: TrackName
    promotion: Promotion
    before: tuple[Promotion, ...] = ()

    @property
    def version(self) -> str:
        """The version in force."""
        return self.promotion.version


def track_file(bundles: Path, model: str, track: str) -> Path:
    """Return the place of a track's file.

    Raises:
        TrackError: the model or the track has no valid name: it would become a path.
    """
    for kind, adapter, name in (("model", _MODEL, model), ("track", _TRACK, track)):
        try:
            adapter.validate_python(name)
        except ValidationError:
            raise TrackError(f"{name[:64]!r} is not a valid name for a {kind}") from None
    return bundles / model / FOLDER / f"{track}.json"


def read_track(bundles: Path, model: str, track: str) -> Track | None:
    """Return a track, or None if nothing was promoted to it yet.

    Raises:
        TrackError: the file is damaged or cannot be read, or belongs to another model or track.
    """
    path = track_file(bundles, model, track)
    try:
        found = Track.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrackError(explained(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise TrackError(f"{path}: damaged: {place}: {first['msg']}") from None
    if (found.model, found.track) != (model, track):
        raise TrackError(f"{path}: damaged: it is of {found.model}, track {found.track}")
    return found


def promote(bundles: Path, model: str, track: str, version: str, reason: str, now: datetime | None = None) -> Track:
    """Put a version in force and return the track; the version that is in force already is left as it is.

    Raises:
        TrackError: as `read_track`.
        OSError: the file cannot be written; the old one stays.
    """
    before = read_track(bundles, model, track)
    if before is not None and before.version == version:
        return before
    earlier = () if before is None else (before.promotion, *before.before)[:KEPT]
    at = (now or datetime.now(UTC)).strftime(TIME_FORMAT)
    promotion = Promotion(version=version, promoted_at=at, reason=reason[:500])
    made = Track(model=model, track=track, promotion=promotion, before=earlier)
    path = track_file(bundles, model, track)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, made.model_dump(mode="json", by_alias=True))
    return made


_MODEL: Final[TypeAdapter[str]] = TypeAdapter(ModelName)
_TRACK: Final[TypeAdapter[str]] = TypeAdapter(TrackName)
