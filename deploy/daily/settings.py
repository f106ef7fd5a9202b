"""The settings of the daily loop: a TOML file, and flags that override it."""

from __future__ import annotations

import argparse
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.bundle.tracks import TrackName
from contract.command_line import CommandError, explained
from service.settings.environment import signers_of_environment


class SettingsError(CommandError, ValueError):
    """A setting is missing, unknown or malformed; the message names it."""


class Settings(BaseModel):
    """The settings.

    Attributes:
        log: the file of events, as `python -m training prepare` reads it: everything that may be learnt.
        recipe: the recipe; its split must keep the newest hours apart.
        track: the line of bundles.
        data, runs, bundles: folders of prepared data, runs and bundles.
        state: folder of the loop's own files.
        core: as `prepare --core`.
        prepare: further arguments of `prepare`.
        tolerance: share by which the candidate may be below the bundle in force.
        threads: of torch.
        keep: days whose runs are kept.
        sign: private key that signs the bundle.
        signers: public keys, as the service's `bundles.signers`: the bundle must be signed by one of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    log: Path
    recipe: Path
    track: TrackName = "daily"
    data: Path = Path("data")
    runs: Path = Path("runs")
    bundles: Path = Path("bundles")
    state: Path = Path("daily")
    core: Annotated[int, Field(ge=1)] = 1
    prepare: tuple[str, ...] = ()
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.05
    threads: Annotated[int, Field(ge=0)] = 1
    keep: Annotated[int, Field(ge=1)] = 7
    sign: Path | None = None
    signers: Path | None = Field(default_factory=signers_of_environment)


class Call(BaseModel):
    """One call of the loop.

    Attributes:
        day: the name of its work: a second call for the same day does nothing.
        scratch: fresh weights instead of those in force.
        force: promote although the candidate is worse.
    """

    model_config = ConfigDict(frozen=True)

    day: date
    scratch: bool = False
    force: bool = False


def parse(arguments: list[str] | None) -> tuple[Settings, Call]:
    """Read the command line and the file that it names.

    Raises:
        SettingsError: a setting is missing, unknown or malformed.
    """
    options = _parser().parse_args(arguments)
    given = {
        name: value for name, value in vars(options).items() if name in Settings.model_fields and value is not None
    }
    try:
        settings = Settings.model_validate(_file(options.config) | given)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return settings, Call(day=options.day, scratch=options.scratch, force=options.force)


def _file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(explained(error)) from None
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.daily",
        description="Prepare, train, judge, export, verify and promote today's bundle (docs/daily.md).",
        epilog="status: 0 promoted, 1 failed, 3 refused, 4 another call is running",
    )
    parser.add_argument("config", type=Path, nargs="?", help="a TOML file with these settings, by their names")
    for name in ("log", "recipe", "data", "runs", "bundles", "state", "sign", "signers"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--track")
    for name in ("core", "threads", "keep"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--tolerance", type=float)
    today = datetime.now(UTC).date()
    parser.add_argument("--day", type=date.fromisoformat, default=today, help="name of the day (default today, UTC)")
    parser.add_argument("--scratch", action="store_true", help="fresh weights instead of those in force")
    parser.add_argument("--force", action="store_true", help="promote although the candidate is worse")
    return parser
