"""Closed sets of names that answers, metrics and logs share."""

from __future__ import annotations

from typing import Literal, NamedTuple

# Why an answer went without something (docs/http-api.md).
Degraded = Literal[
    "store_unavailable", "behaviours_corrupt", "history_unknown", "bundle_unavailable", "bundle_slow", "unscored_items",
    "popularity",
]  # fmt: skip
# Why a behaviour was not stored.
RefusalReason = Literal["future", "wrong_type"]
# Why an override header was ignored.
RejectReason = Literal["disabled", "malformed", "signature", "expired", "unknown_arm"]
# The place of candidates of the user's history (docs/http-api.md).
Seen = Literal["keep", "last", "drop"]
# The end of a promotion of a track.
TrackResult = Literal["taken", "refused"]
# The service's Redis clients: of rankings, of appends, of streams.
StoreKind = Literal["reads", "writes", "events"]
# The kinds that errors of Redis are counted by.
ErrorKind = Literal[
    "timeout", "auth", "loading", "connection", "wrong_server", "unconfirmed", "busy", "wrong_type", "response",
    "other",
]  # fmt: skip
# The end of a caller's request.
CallerOutcome = Literal[
    "answered", "unauthorized", "forbidden", "over_quota", "overloaded", "refused", "failed", "gone"
]  # fmt: skip
# Background tasks, counted by name when they fail.
TaskName = Literal[
    "access", "bundle_probe", "bundle_release", "bundles", "engine_rebuild", "experiments", "redis_watch",
    "shadow", "spool_replay", "store_lookup", "store_probe", "stream",
]  # fmt: skip


class StoreState(NamedTuple):
    """How a client gets on with its servers."""

    is_up: bool  # a server is known that does not fail, as far as it was asked
    open_breakers: int  # servers that are left out for now
