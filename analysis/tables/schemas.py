"""The tables in Parquet: `DIR/<table>/date=YYYY-MM-DD/*.parquet`, the date by the server's clock in UTC.

Columns have the names of the events' fields (docs/contract.md). Rows of one table with the same `id` are one event;
readers keep one of them.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_LAYER: Final = pa.struct([("layer", pa.string()), ("exp", pa.string()), ("arm", pa.string()), ("forced", pa.int8())])
_MOVED: Final = pa.struct([("rule", pa.string()), ("items", pa.int32())])
_ITEM: Final = pa.struct(
    [
        ("item", pa.string()),
        ("rank", pa.int32()),  # from 1
        ("score", pa.float64()),  # null: the model does not know the item, or two models ranked
        ("team", pa.string()),  # interleaving: the arm that put the item here; null otherwise, and where both agree
        ("ranks", pa.list_(pa.int32())),  # interleaving: the item's rank in each arm's own list; null otherwise
    ]
)

EXPOSURES: Final = pa.schema(
    [
        ("id", pa.string()),
        ("ts", pa.int64()),  # ms UTC, as all times
        ("req", pa.string()),
        ("unit_type", pa.string()),
        ("unit", pa.string()),
        ("layer", pa.string()),
        ("exp", pa.string()),
        ("arm", pa.string()),
        ("reason", pa.string()),
        ("slot", pa.int32()),
        ("armb", pa.int32()),
        ("cfg", pa.string()),
        ("exp_salt", pa.string()),
        ("forced", pa.int8()),
        ("model", pa.string()),
        ("ver", pa.string()),
        ("served_model", pa.string()),
        ("served_ver", pa.string()),
        ("outcome", pa.string()),
        ("k", pa.int32()),
        ("n_cand", pa.int32()),
    ]
)

ACTIVITY: Final = pa.schema(
    [
        ("id", pa.string()),
        ("ts", pa.int64()),  # the client's time within 24 h of `received`, else the nearer end
        ("received", pa.int64()),
        ("clamped", pa.int8()),  # 1: `ts` is not the time that the client sent
        ("unit", pa.string()),
        ("type", pa.string()),
        ("item", pa.string()),
        ("author", pa.string()),
        ("device", pa.string()),
        ("view", pa.string()),  # joins play_start and play_end
        ("req", pa.string()),
        ("play_ms", pa.int64()),
        ("duration_ms", pa.int64()),
        ("tz_offset", pa.int32()),  # minutes east of UTC
        ("value", pa.float64()),
    ]
)

RANKINGS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("ts", pa.int64()),
        ("req", pa.string()),
        ("unit", pa.string()),
        ("arms", pa.list_(_LAYER)),
        ("model", pa.string()),  # what answered; null if nothing did
        ("ver", pa.string()),
        ("outcome", pa.string()),  # ok, degraded, error, refused, gone
        ("reasons", pa.list_(pa.string())),
        ("latency_us", pa.int64()),
        ("n_cand", pa.int32()),
        ("k", pa.int32()),
        ("items", pa.list_(_ITEM)),
        ("attributes", pa.string()),  # JSON
        ("rules", pa.string()),  # the set of rules of the user's arm; null: none
        ("moved", pa.list_(_MOVED)),  # candidates that each of its rules moved; null: none were applied
    ]
)

OPTIONAL: Final = {
    "rules": "NULL::VARCHAR AS rules",
    "moved": "NULL::STRUCT(rule VARCHAR, items INTEGER)[] AS moved",
}
"""Columns that a file lacks if none of its rows has a value, so that earlier readers read it; what SQL reads then."""

SCHEMAS: Final[dict[str, pa.Schema]] = {"exposures": EXPOSURES, "activity": ACTIVITY, "rankings": RANKINGS}


def without_optional(schema: pa.Schema) -> pa.Schema:
    """Return the columns that every file of a table has."""
    return pa.schema([field for field in schema if field.name not in OPTIONAL])


def written(table: pa.Table) -> pa.Table:
    """Return the rows as a file has them: without the optional columns if none of them has a value."""
    empty = all(table[name].null_count == len(table) for name in table.column_names if name in OPTIONAL)
    return table.select(without_optional(table.schema).names) if empty else table
