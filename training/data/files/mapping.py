"""A mapping: the columns of a file by our names, the meaning of its actions and times, and the features of items.

It is a TOML file beside the data (`clicks.toml` for `clicks.csv.gz`, `clicks.parquet` or the folder `clicks`), or
`--mapping FILE`; `--map KEY=VALUE` changes single keys. docs/own-data.md has examples.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from contract.behaviours.actions import ACTION_CODES, ACTIONS, DEFAULT_ACTION, Action
from contract.behaviours.grammar import shown
from contract.bundle.context import MAX_INPUTS, RESERVED, InputName
from contract.command_line import explained
from training.data.datasets.interactions import DEFAULT_WINDOW_MS, NAME_PATTERN, DataError
from training.data.files.kinds.base import Kind
from training.data.files.kinds.category import Category
from training.data.files.kinds.embedding import Embedding
from training.data.files.kinds.number import Number
from training.data.files.kinds.texts import Texts
from training.data.files.kinds.words import Words

Feature = Annotated[Category | Number | Texts | Words | Embedding, Field(discriminator="kind")]
FeatureName = Annotated[str, Field(pattern=NAME_PATTERN)]

IGNORE: Final = "ignore"
"""An action of this name is counted and not read."""


def _ours(action: str) -> str:
    if action not in ACTION_CODES and action != IGNORE:
        raise ValueError(f"{shown(action)} is not one of {', '.join(ACTIONS)}, {IGNORE}")
    return action


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Columns(_Section):
    """Their names of our columns; the default is the first of our own spellings that the file has.

    Attributes:
        user: default `user_id` or `user`.
        item: default `item_id` or `item`.
        time: default `ts` (milliseconds) or `timestamp` (seconds).
        action: default `action`.
        play: played time, default `play_ms`.
        value: a rating from 0 to 25.5, default `value` or `rating`.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    action: str | None = None
    play: str | None = None
    value: str | None = None


class Time(_Section):
    """How times are written.

    Attributes:
        format: seconds or milliseconds since the epoch, or ISO 8601.
        zone: an IANA name for times that name no zone themselves; without it they are refused.
    """

    format: Literal["seconds", "ms", "iso"] | None = None
    zone: str | None = None

    @field_validator("zone")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                ZoneInfo(name)
            except (OSError, ValueError, KeyError):
                raise ValueError(f"no time zone {name!r}; give a name such as UTC or Europe/Berlin") from None
        return name


class Impressions(_Section):
    """Impressions as negatives.

    Attributes:
        window_s: seconds; an impression is positive if the user acts on the item within them.
    """

    window_s: Annotated[float, Field(gt=0, strict=False)] = DEFAULT_WINDOW_MS / 1000


class Items(_Section):
    """The file of items.

    Attributes:
        file: name, relative to the mapping; None = features are columns of the log itself.
        id: their column of the item's id; default as in the log.
        title: their column of a title for people; default `title` if there is one.
    """

    file: str | None = None
    id: str | None = None
    title: str | None = None


class Mapping(_Section):
    """All sections; each is optional.

    Attributes:
        play_unit: of the column of played time.
        default_action: of rows without an action.
        actions: our action, or "ignore", for each of theirs; our own names need no entry.
        features: by name.
        context: their column of each attribute of the request, such as the device; a list names both alike.
    """

    columns: Columns = Columns()
    time: Time = Time()
    play_unit: Literal["ms", "s"] = "ms"
    default_action: Action = DEFAULT_ACTION
    actions: dict[str, Annotated[str, AfterValidator(_ours)]] = {}
    impressions: Impressions = Impressions()
    items: Items = Items()
    features: dict[FeatureName, Feature] = {}
    context: Annotated[dict[InputName, str], Field(max_length=MAX_INPUTS)] = {}

    @field_validator("context", mode="before")
    @classmethod
    def _named(cls, given: object) -> object:
        return {name: name for name in given} if isinstance(given, list) else given

    @field_validator("context")
    @classmethod
    def _is_free(cls, context: dict[str, str]) -> dict[str, str]:
        if taken := sorted(RESERVED & context.keys()):
            raise ValueError(f"{taken[0]} is made from the time of the event, so it cannot be an attribute")
        return context


def load_mapping(path: Path | None, overrides: Sequence[str] = ()) -> Mapping:
    """Read a mapping, or the empty one; `overrides` are KEY=VALUE with dotted keys, applied last.

    Raises:
        DataError: it is missing or malformed; the message names the file and the key.
    """
    document: dict[str, Any] = {} if path is None else _document(path)
    for override in overrides:
        _override(document, override)
    try:
        return Mapping.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise DataError(f"{path or '--map'}: {key}: {problem}") from None


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such mapping") from None
    except OSError as error:
        raise DataError(explained(error)) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}") from None


def _override(document: dict[str, Any], override: str) -> None:
    """Set one key of the document; the value is TOML, or else text."""
    key, found, text = override.partition("=")
    if not found or not key:
        raise DataError(f"--map {override}: write KEY=VALUE, as in --map columns.user=uid")
    *sections, last = key.split(".")
    for section in sections:
        document = document.setdefault(section, {})
        if not isinstance(document, dict):
            raise DataError(f"--map {override}: {section} is not a section")
    try:
        document[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        document[last] = text


def default_features(columns: Sequence[str]) -> dict[str, Kind]:
    """Return the features of a file without a mapping: those of our own three names that it has."""
    ours: dict[str, Kind] = {
        "title": Words(kind="words"),
        "year": Category(kind="category"),
        "genres": Texts(kind="list"),
    }
    return {name: kind for name, kind in ours.items() if name in columns}
