"""Activity of users, as callers report it to POST /feedback, and as the stream and the analysis have it.

Events with `type` are version 2. Events with `action` are version 1: what they mean and how they are written does not
change any more. `activity_row` reads both (docs/contract.md has the fields).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NotRequired, TypedDict, final

from contract.behaviours.actions import Action

ActivityType = Literal[
    "foreground", "background", "heartbeat", "play_start", "play_end", "like", "unlike", "dislike", "comment", "share",
    "follow", "unfollow", "publish", "impression", "click", "play", "finish", "purchase", "rate",
]  # fmt: skip

ACTIVITY_SCHEMAS: Final = (1, 2)
MAX_CLOCK_ERROR_MS: Final = 86_400_000
"""A client's time that differs more than this from the time of arrival is moved to the nearer end."""

_Alternatives = tuple[str, ...]  # one of these fields must be there
_ITEM: Final[tuple[_Alternatives, ...]] = (("item_id",),)
_VIEW: Final[tuple[_Alternatives, ...]] = (("item_id",), ("view_id",))
_AUTHOR: Final[tuple[_Alternatives, ...]] = (("author_id", "item_id"),)

REQUIRED: Final[dict[ActivityType, tuple[_Alternatives, ...]]] = {
    "foreground": (),
    "background": (),
    "heartbeat": (),
    "play_start": _VIEW,
    "play_end": (*_VIEW, ("play_ms",)),
    "like": _ITEM,
    "unlike": _ITEM,
    "dislike": _ITEM,
    "comment": _ITEM,
    "share": _ITEM,
    "follow": _AUTHOR,
    "unfollow": _AUTHOR,
    "publish": (),
    "impression": _ITEM,
    "click": _ITEM,
    "play": _ITEM,
    "finish": _ITEM,
    "purchase": _ITEM,
    "rate": _ITEM,
}
"""The fields that each type requires, besides `user_id` and `type`. All other fields are optional for every type."""


@final
class ActionReport(TypedDict):
    """Version 1: an action of a user on an item."""

    user_id: str
    item_id: str
    action: Action
    ts: NotRequired[int]  # ms since epoch
    play_ms: NotRequired[int]
    value: NotRequired[float]
    request_id: NotRequired[str]


@final
class ActivityReport(TypedDict):
    """Version 2: an event of one of the types."""

    user_id: str
    type: ActivityType
    event_id: NotRequired[str]  # the client's own; one user's events with the same one are one event
    ts: NotRequired[int]  # ms since epoch, by the client's clock
    item_id: NotRequired[str]
    author_id: NotRequired[str]
    device_id: NotRequired[str]
    view_id: NotRequired[str]  # the same in the play_start and the play_end of one view
    request_id: NotRequired[str]
    play_ms: NotRequired[int]
    duration_ms: NotRequired[int]
    tz_offset: NotRequired[int]  # minutes east of UTC
    value: NotRequired[float]


Report = ActionReport | ActivityReport

_COLUMNS: Final = {
    "req": "request_id", "item": "item_id", "view": "view_id", "play_ms": "play_ms", "duration_ms": "duration_ms",
    "tz_offset": "tz_offset", "value": "value",
}  # fmt: skip
_PERSONAL: Final = {"author": "author_id", "device": "device_id"}  # columns that get a pseudonym, as the unit does
_ROW: Final = ("item", "author", "device", "view", "req", "play_ms", "duration_ms", "tz_offset", "value")


def missing_field(report: ActivityReport) -> tuple[str, str] | None:
    """Return a field that the type of an event requires and the event lacks, with the message; None if it has all."""
    for alternatives in REQUIRED[report["type"]]:
        if alternatives[0] not in report and not any(field in report for field in alternatives):
            return alternatives[0], f"{' or '.join(alternatives)} is required for {report['type']}"
    return None


def activity_event(report: Report, identifier: str, received_ms: int, name: Callable[[str], str]) -> dict[str, Any]:
    """Return the event of a report, before it is written as JSON; Any: JSON.

    Args:
        report: valid.
        identifier: the same for the same event, if it can be known.
        received_ms: the time of arrival.
        name: turns a user, an author or a device into what events call it: itself, or its pseudonym.
    """
    if "action" in report:
        return _action_event(report, identifier, received_ms, name)
    sent = report.get("ts", received_ms)
    ts = clamped(sent, received_ms)
    event = {"v": 2, "id": identifier, "ts": ts, "received": received_ms, "unit": name(report["user_id"])}
    if ts != sent:
        event["sent"] = sent
    event["type"] = report["type"]
    fields: Mapping[str, Any] = report
    event |= {column: name(fields[field]) for column, field in _PERSONAL.items() if field in fields}
    return event | {column: fields[field] for column, field in _COLUMNS.items() if field in fields}


def _action_event(
    report: ActionReport, identifier: str, received_ms: int, name: Callable[[str], str]
) -> dict[str, Any]:
    return {
        "v": 1,
        "id": identifier,
        "ts": report.get("ts", received_ms),
        "received": received_ms,
        "req": report.get("request_id"),
        "unit": name(report["user_id"]),
        "item": report["item_id"],
        "action": report["action"],
        "play_ms": report.get("play_ms"),
        "value": report.get("value"),
    }


def activity_row(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of `analysis.tables.schemas.ACTIVITY` for an event of either version.

    A column is null where the event has no field.

    Raises:
        ValueError: a version that this reader does not know.
        KeyError: a field that every event has is missing.
    """
    if event["v"] not in ACTIVITY_SCHEMAS:
        raise ValueError(f"activity of version {event['v']!r} is newer than this reader")
    ts = clamped(event["ts"], event["received"])
    return {
        "id": event["id"],
        "ts": ts,
        "received": event["received"],
        "clamped": int(ts != event.get("sent", event["ts"])),
        "unit": event["unit"],
        "type": event["type"] if event["v"] > 1 else event["action"],
        **{column: event.get(column) for column in _ROW},
    }


def clamped(sent_ms: int, received_ms: int) -> int:
    """Return a client's time, at most a day away from the time of arrival."""
    return min(max(sent_ms, received_ms - MAX_CLOCK_ERROR_MS), received_ms + MAX_CLOCK_ERROR_MS)
