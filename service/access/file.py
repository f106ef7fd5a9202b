"""The access file: callers with the hashes of their keys, their scopes and quotas."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.operator_file import Lines, OperatorFileError, parse
from service.access.keys import HASH
from service.access.scopes import Scope

MAX_FILE_BYTES: Final = 262_144
MAX_CALLERS: Final = 200  # each is a value of a metric's label
MAX_PROBLEMS: Final = 16

CallerId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Hash = Annotated[str, Field(pattern=f"^{HASH.pattern}$")]
Rate = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class AccessFileError(ValueError):
    """The file cannot be used; each problem names its line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems[:MAX_PROBLEMS]
        super().__init__("; ".join(self.problems))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Quota(_Strict):
    """How much a caller may ask of one instance of the service."""

    requests_per_second: Rate | None = None
    candidates_per_second: Rate | None = None
    burst_seconds: Annotated[int, Field(ge=1, le=60)] = 1  # so many seconds' worth may come at once


class CallerEntry(_Strict):
    """One caller; a second key replaces the first without a pause."""

    id: CallerId
    keys: Annotated[tuple[Hash, ...], Field(min_length=1, max_length=2)]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    quota: Quota = Quota()


class AccessFile(_Strict):
    """All callers."""

    callers: Annotated[tuple[CallerEntry, ...], Field(min_length=1, max_length=MAX_CALLERS)]


def read_access(content: bytes) -> AccessFile:
    """Return the callers of a file.

    Raises:
        AccessFileError: malformed, or a caller or a key is in it twice.
    """
    try:
        document = parse(content, MAX_FILE_BYTES)
    except OperatorFileError as error:
        raise AccessFileError([str(error)]) from error
    try:
        file = AccessFile.model_validate(document)
    except ValidationError as error:
        raise AccessFileError(_problems(content, error)) from error
    _check_distinct(file)
    return file


def _problems(content: bytes, error: ValidationError) -> list[str]:
    lines = Lines(content)
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(map(str, one["loc"]))
        found.append(f"line {lines.of(one['loc'])}: {place}: {one['msg']}" if place else one["msg"])
    return found


def _check_distinct(file: AccessFile) -> None:
    ids = [caller.id for caller in file.callers]
    hashes = [one for caller in file.callers for one in caller.keys]
    problems = [f"caller {one} is there twice" for one in sorted({one for one in ids if ids.count(one) > 1})]
    if len(set(hashes)) < len(hashes):
        twice = next(one for one in hashes if hashes.count(one) > 1)
        problems.append(f"the key {twice[:15]}... is there twice")
    if problems:
        raise AccessFileError(problems)
