"""The tables in Parquet: `DIR/<table>/date=YYYY-MM-DD/*.parquet`, the date by the server's clock in UTC.

Columns have the names of the events' fields (docs/contract.md). Rows of one table with the same `id` are one event;
readers keep one of them.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_LAYER: Final = pa.struct([("layer", pa.string()), ("exp", pa.string()), ("arm", pa.string()), ("forced", pa.int8())])
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
    ]
)

SCHEMAS: Final[dict[str, pa.Schema]] = {"exposures": EXPOSURES, "activity": ACTIVITY, "rankings": RANKINGS}
