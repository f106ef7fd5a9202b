"""Captured rankings: the answer of GET /debug/slow, from a file or from the service."""

from __future__ import annotations

import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.command_line import CommandError

_MAX_BYTES: Final = 256 * 1024 * 1024
_SECONDS: Final = 30.0

Whole = Annotated[int, Field(ge=0, lt=2**63)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class Behaviours(_Part):
    """The columns of a history, each as long as the others."""

    item: list[Whole]
    age_ms: list[int]
    action: list[Annotated[int, Field(ge=0, le=255)]]
    play_ms: list[Annotated[int, Field(ge=0, lt=2**32)]]
    value: list[Annotated[int, Field(ge=0, le=255)]]


class Inputs(_Part):
    """The inputs of a ranking, with other items."""

    request_time_ms: Whole
    explain: bool
    context: dict[str, str | int]
    described: int
    candidates: list[Whole]
    behaviours: Behaviours


class Captured(_Part):
    """One ranking; fields that are not needed are ignored."""

    request_id: str
    arm: str
    bundle: str
    digest: str
    status: int
    total_ms: float
    stages_ms: dict[str, float]
    batch_rows: list[int]
    candidates: int
    history: int | None
    inputs: Inputs | None


class _Answer(_Part):
    rankings: list[Captured]


def read(source: str, key: str | None = None) -> list[Captured]:
    """Return the captured rankings of a file or an address.

    Args:
        source: path of a file, or http or https address.
        key: API key for the address; None if it needs none.

    Raises:
        CommandError: they cannot be read.
    """
    content = _fetched(source, key) if source.startswith(("http://", "https://")) else Path(source).read_bytes()
    try:
        return _Answer.model_validate_json(content).rankings
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CommandError(f"{source}: not the answer of GET /debug/slow ({place}: {first['msg']})") from error


def _fetched(address: str, key: str | None) -> bytes:
    if "@" in address:
        raise CommandError("the address has a user or a password, which the service does not take; give --key-file")
    try:
        request = urllib.request.Request(address)
        if key:
            request.add_unredirected_header("Authorization", f"Bearer {key}")  # never to another host
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            content: bytes = answer.read(_MAX_BYTES)
    except (OSError, ValueError, HTTPException) as error:  # also a status that is not 200; a port that is not a number
        raise CommandError(f"{address}: {error}") from error
    return content
