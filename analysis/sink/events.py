"""Events of the streams as rows of the tables; an event that does not fit is refused with its reason.

Types are strict: a number in quotes is refused, not repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import pyarrow as pa
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import from_json

from analysis.tables.schemas import OPTIONAL, SCHEMAS
from contract.behaviours.grammar import MIN_TIME_MS
from contract.events.activity import ACTIVITY_SCHEMAS, activity_row
from contract.events.ranking_log import RANKING_SCHEMA, ranking_row
from contract.events.streams import ACTIVITY_STREAM, EXPOSURE_STREAM, RANKING_STREAM

Event = dict[str, Any]  # Any: JSON
Row = dict[str, Any]  # Any: the values of a table's columns

_MAX_TIME_MS: Final = 4_102_444_800_000  # 2100


class DamagedEventError(ValueError):
    """An event cannot become a row.

    Args:
        kind: json, version, field, type or time; a label of a metric.
        message: the reason.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Kind:
    """One kind of event: its stream and its table.

    Args:
        table: a name of `SCHEMAS`.
        stream: the key, without a prefix.
        versions: that `to_row` reads.
        required: columns that are never null.
        clock: the column with the server's time, which determines the date of a row.
        extra: fields that are not columns.
        to_row: turns an event of one of the versions into columns.
    """

    table: str
    stream: str
    versions: tuple[int, ...]
    required: frozenset[str]
    clock: str
    extra: frozenset[str] = frozenset()
    to_row: Callable[[Event], Row] = dict  # may raise KeyError, TypeError or ValueError

    @property
    def schema(self) -> pa.Schema:
        """Return the columns."""
        return SCHEMAS[self.table]


class Reader:
    """Turns the events of one kind into rows."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._fields = frozenset(kind.schema.names) | kind.extra | {"v"}
        self._adapter = TypeAdapter(_record({field.name: field for field in kind.schema}, kind.required))

    def row(self, event: bytes) -> Row:
        """Return the row of an event.

        Raises:
            DamagedEventError: it is not JSON, of an unknown version, or has a field that does not fit.
        """
        fields = _object(event)
        self._check(fields)
        row = self._columns(fields)
        try:
            self._adapter.validate_python(row, strict=True)
        except ValidationError as error:
            raise _damage(error) from None
        if not MIN_TIME_MS <= row[self.kind.clock] < _MAX_TIME_MS:
            raise DamagedEventError("time", f"{self.kind.clock} is before 1971 or after 2099")
        return row

    def _columns(self, fields: Event) -> Row:
        try:
            row = self.kind.to_row(fields)
        except KeyError as error:
            raise DamagedEventError("field", f"{error.args[0]}: Field required") from None
        except (TypeError, ValueError) as error:
            raise DamagedEventError("type", str(error)) from None
        row.pop("v", None)
        return row

    def _check(self, fields: Event) -> None:
        version = fields.get("v")
        if type(version) is not int or version not in self.kind.versions:
            raise DamagedEventError("version", f"unknown version: {str(version)[:40]}")
        unknown = fields.keys() - self._fields
        if unknown:
            raise DamagedEventError("field", f"unknown fields: {', '.join(sorted(unknown))[:200]}")


def _object(event: bytes) -> Event:
    try:
        fields = from_json(event, allow_inf_nan=False)
    except ValueError as error:
        raise DamagedEventError("json", f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise DamagedEventError("json", "not a JSON object")
    return fields


def _damage(error: ValidationError) -> DamagedEventError:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    kind = "field" if problem["type"] in ("missing", "extra_forbidden") else "type"
    return DamagedEventError(kind, f"{place}: {problem['msg']}")


def _record(columns: Mapping[str, pa.Field], required: frozenset[str]) -> type[Any]:  # Any: a model
    """Return a type for the values of some columns, which are null or missing unless they are required."""
    fields: dict[str, Any] = {
        name: (_type(column.type), ...) if name in required else (_type(column.type) | None, None)
        for name, column in columns.items()
    }
    model: type[Any] = create_model("Record", __config__=ConfigDict(extra="forbid", strict=True), **fields)
    return model


def _type(column: pa.DataType) -> Any:  # Any: a type
    """Return the Python type of the values that a column can store."""
    if pa.types.is_list(column):
        return list[_type(column.value_type)]  # type: ignore[misc]  # a type that is built here
    if pa.types.is_struct(column):
        return _record({field.name: field for field in column}, frozenset())
    if pa.types.is_integer(column):
        bound = 2 ** (column.bit_width - 1)
        return Annotated[int, Field(ge=-bound, lt=bound)]
    return Annotated[float, Field(allow_inf_nan=False)] if pa.types.is_floating(column) else str


EXPOSURES: Final = Kind(
    "exposures",
    EXPOSURE_STREAM,
    versions=(1,),
    required=frozenset(SCHEMAS["exposures"].names) - {"slot", "armb", "served_model", "served_ver"},
    clock="ts",
)
ACTIVITY: Final = Kind(
    "activity",
    ACTIVITY_STREAM,
    versions=ACTIVITY_SCHEMAS,
    required=frozenset({"id", "ts", "received", "clamped", "unit", "type"}),
    clock="received",
    extra=frozenset({"action", "sent"}),
    to_row=activity_row,
)
RANKINGS: Final = Kind(
    "rankings",
    RANKING_STREAM,
    versions=(RANKING_SCHEMA,),
    required=frozenset(SCHEMAS["rankings"].names) - {"model", "ver", "attributes", *OPTIONAL},
    clock="ts",
    extra=frozenset({"scores", "teams", "ranks"}),
    to_row=ranking_row,
)
KINDS: Final = (EXPOSURES, ACTIVITY, RANKINGS)
