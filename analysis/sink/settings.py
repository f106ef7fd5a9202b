"""Settings of the sink, from `RANKER_SINK__<NAME>` and from flags; a flag takes precedence.

`RANKER_SINK__URL_FILE` names a file that has the URL.
"""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.command_line import CommandError
from contract.redis_url.address import RedisAddress
from contract.redis_url.parse import parse_redis_url
from contract.secret_files import ENDING, secrets_of

PREFIX: Final = "RANKER_SINK__"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


def _parsed(url: SecretStr) -> SecretStr:
    parse_redis_url(url.get_secret_value())
    return url


class SinkSettings(BaseSettings):
    """All settings of the sink."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    url: Annotated[SecretStr, AfterValidator(_parsed)] = SecretStr("redis://127.0.0.1:6379/0")
    """The Redis of the streams, written like `RANKER_STREAMS__URL`."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,64}$")] = ""
    """The service's `RANKER_REDIS__PREFIX`."""
    group: Name = "ab-sink"
    """Consumer group; each group gets every event."""
    consumer: Name = "sink"
    """Name of this sink in its group. Each sink that runs at the same time needs its own."""
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Maximum number of events in one file."""
    batch_bytes: Annotated[int, Field(ge=1_024, le=2**30)] = 33_554_432
    """Maximum bytes of the events in one file, as JSON."""
    batch_seconds: Annotated[float, Field(gt=0, le=3_600)] = 10.0
    """How long (s) an event may wait for others to be written with."""
    claim_seconds: Annotated[int, Field(ge=30, le=604_800)] = 600
    """Take over events that another sink of the group read this long (s) ago and has not acknowledged."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 5.0
    """How long (s) Redis may take to connect or reply before the sink tries again."""
    trim: bool = True
    """Remove events from a stream when every consumer group has acknowledged them."""
    metrics_host: str = "127.0.0.1"
    """Address of the port for Prometheus."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 9109
    """Port for Prometheus; 0 opens none. `--once` opens none."""
    reports: Path | None = None
    """Folder of reports: `report.json` in it and in its folders becomes gauges for dashboards; empty exports none."""

    @property
    def address(self) -> RedisAddress:
        """Return the address of the streams."""
        return parse_redis_url(self.url.get_secret_value())


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting."""
    for name, field in SinkSettings.model_fields.items():
        help_text = f"{field.description} Default: {shown(field.default)}. Variable: {variable(name)}."
        parser.add_argument(_flag(name), default=argparse.SUPPRESS, help=help_text.replace("%", "%%"))


def load(options: argparse.Namespace) -> SinkSettings:
    """Read the environment and the flags.

    Raises:
        CommandError: a variable is unknown, or a value cannot be used.
    """
    _check_names()
    given = {name: value for name, value in vars(options).items() if name in SinkSettings.model_fields}
    secrets = secrets_of(os.environ, [variable("url")])
    if secrets.problems:
        raise CommandError("; ".join(secrets.problems))
    url = secrets.values.get(variable("url"))
    try:
        return SinkSettings(**({} if url is None else {"url": url}) | given)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise CommandError("; ".join(_problem(detail, given) for detail in details)) from None


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def shown(default: object) -> str:
    """Return a default as the documentation shows it."""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if default is None:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _check_names() -> None:
    known = [*map(variable, SinkSettings.model_fields), variable("url") + ENDING]
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            raise CommandError(f"{name[:64]}: unknown setting" + (f"; did you mean {near[0]}?" if near else ""))


def _problem(detail: Any, given: dict[str, Any]) -> str:  # Any: pydantic's details; a flag's text
    name = str(detail["loc"][0]) if detail["loc"] else ""
    place = _flag(name) if name in given else variable(name)
    return f"{place}: {str(detail['msg']).removeprefix('Value error, ')}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
