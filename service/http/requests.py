"""The bodies of requests as pydantic models. Strict: no coercion, and an unknown field is an error."""

from __future__ import annotations

from typing import Annotated, Any, Final, NotRequired, final

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Strict, Tag, with_config
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from contract.behaviours.actions import DEFAULT_ACTION, Action
from contract.behaviours.grammar import ID_RULE, MAX_ID_BYTES, MIN_TIME_MS
from contract.behaviours.records import MAX_PLAY_MS, MAX_TIME_MS, MAX_VALUE
from contract.bundle.context import MAX_NAME as MAX_CONTEXT_NAME
from contract.bundle.context import MAX_TEXT as MAX_CONTEXT_TEXT
from contract.bundle.context import MAX_TOLD
from contract.bundle.item_features import MAX_FEATURES, MAX_TEXT, MAX_VALUES
from contract.events.activity import ActivityType
from service.names import Seen

MAX_ATTRIBUTES: Final = 32
MAX_LIMIT: Final = 2**31 - 1
NOW: Final = -1  # a request time that was not given; no caller can send it

STRICT: Final = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

# Characters above 255 stand for themselves: Go's expressions, unlike others, have no escapes such as \\u1680.
_CONTROL: Final = r"\x00-\x1f\x7f-\x9f"
_BLANK: Final = r"\x20\xa0" + "\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_END: Final = f"[^{_CONTROL}{_BLANK}]"
_ID_CHARACTERS: Final[dict[str, Any]] = {"pattern": f"^{_END}([^{_CONTROL}]*{_END})?$"}  # Any: JSON
ID_SCHEMA: Final = {"minLength": 1, "maxLength": MAX_ID_BYTES, **_ID_CHARACTERS}
"""The rules for an id, for clients: the service checks all ids of a request together."""

Name = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES)]
Id = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_ID_BYTES,
        description=f"{ID_RULE}; compared byte for byte.",
        examples=["42"],
        json_schema_extra=_ID_CHARACTERS,
    ),
]
TimeMs = Annotated[
    int,
    Field(
        ge=MIN_TIME_MS, lt=MAX_TIME_MS, description="Milliseconds since the epoch; seconds are refused (before 1971)."
    ),
]
PlayMs = Annotated[int, Field(ge=0, le=MAX_PLAY_MS, description="Milliseconds played.")]
Value = Annotated[float, Field(ge=0, le=MAX_VALUE, description="A rating; stored in tenths.")]
ActionName = Annotated[Action, Field(description=f"The action; default {DEFAULT_ACTION}.")]
Attribute = (
    Annotated[
        str, Strict(), Field(max_length=MAX_ID_BYTES, json_schema_extra={"pattern": f"^[^{_CONTROL}]*$"})
    ] | bool | int | float
)  # fmt: skip


FeatureText = Annotated[str, Strict(), Field(max_length=MAX_TEXT)]
FeatureValue = FeatureText | int | float | Annotated[list[FeatureText | int], Field(max_length=MAX_VALUES)]
ItemFeatures = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], FeatureValue], Field(max_length=MAX_FEATURES)
]


ContextValue = Annotated[str, Strict(), Field(max_length=MAX_CONTEXT_TEXT)] | int
ContextName = Annotated[str, Field(min_length=1, max_length=MAX_CONTEXT_NAME)]


@with_config(STRICT)
class Behaviour(TypedDict):
    """One past action of the user of the request."""

    item_id: Id
    ts: TimeMs
    action: NotRequired[ActionName]
    play_ms: NotRequired[PlayMs]
    value: NotRequired[Value]


@with_config(STRICT)
class UserBehaviour(Behaviour):
    """One past action of a user."""

    user_id: Id


DurationMs = Annotated[int, Field(ge=0, le=MAX_PLAY_MS, description="The item's length in milliseconds.")]
TimeZoneOffset = Annotated[
    int, Field(ge=-720, le=840, description="The client's local time minus UTC, in minutes.", examples=[480])
]
TypeName = Annotated[ActivityType, Field(description="docs/http-api.md: the fields that each type requires.")]


@final
@with_config(STRICT)
class Feedback(TypedDict):
    """An action of a user on a shown item; new callers send `type` instead of `action`."""

    user_id: Id
    item_id: Id
    action: ActionName
    ts: NotRequired[TimeMs]
    request_id: NotRequired[Id]
    play_ms: NotRequired[PlayMs]
    value: NotRequired[Value]


@final
@with_config(STRICT)
class ActivityEvent(TypedDict):
    """An event of a user, for the analysis of experiments."""

    user_id: Id
    type: TypeName
    event_id: NotRequired[Id]
    ts: NotRequired[TimeMs]
    item_id: NotRequired[Id]
    author_id: NotRequired[Id]
    device_id: NotRequired[Id]
    view_id: NotRequired[Id]
    request_id: NotRequired[Id]
    play_ms: NotRequired[PlayMs]
    duration_ms: NotRequired[DurationMs]
    tz_offset: NotRequired[TimeZoneOffset]
    value: NotRequired[Value]


class Request(BaseModel):
    """A request's body."""

    model_config = STRICT


class RankRequest(Request):
    """Candidates to be ordered for a user."""

    user_id: Id
    """The user; may be unknown to the service."""
    candidates: Annotated[list[Id], FailFast(), Field(min_length=1)]
    """Items to be ranked, 1 to 2,000 (a setting); a repeated id is ranked once, at its first place."""
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = Field(default_factory=lambda: MAX_LIMIT)
    """Return only the best `limit` items; default all."""
    recent: Annotated[list[Behaviour], FailFast()] = Field(default_factory=list)
    """Behaviours newer than those stored, at most 500 (a setting); used for this request, not stored."""
    attributes: Annotated[dict[Name, Attribute], Field(max_length=MAX_ATTRIBUTES)] = Field(
        default_factory=dict, json_schema_extra={"propertyNames": ID_SCHEMA | {"pattern": f"^[^{_CONTROL}]+$"}}
    )
    """Attributes for experiment targets: strings, numbers, booleans; never stored."""
    features: dict[Name, ItemFeatures] = Field(default_factory=dict)
    """Features of candidates, by item id: an item that the model does not know gets a score from them, if the bundle
    scores new items. Features of other items are not read, and those that the model does not read are left out."""
    context: Annotated[dict[ContextName, ContextValue], Field(max_length=MAX_TOLD)] = Field(default_factory=dict)
    """The context of the request, for a model that reads it: attributes as in its training log, such as `device`, and
    `tz_offset`, the user's local time minus UTC in minutes (-720 to 840), for the hour of the day. An attribute that is
    missing, or has a value that training did not have, is not known. Names that the bundle does not read are in the
    answer's `ignored_context`."""
    request_time: TimeMs = Field(
        default_factory=lambda: NOW,
        description="The time of the request (ms since the epoch), for replays; default now.",
    )
    explain: bool = False
    """Whether to explain which behaviours were read, with the model's own explanation."""
    seen: Seen = "keep"
    """Candidates that are in the user's history, in `recent` or the stored behaviours that are read: `keep` ranks them
    like all others, `last` puts them after all others, `drop` leaves them out of the answer."""


class RankBatchRequest(Request):
    """Rankings for many users, for callers that do not wait for each one."""

    rankings: Annotated[list[RankRequest], Field(min_length=1)]
    """At most 100, with at most 20,000 candidates together (settings). Each is answered or refused by itself."""
    shown: bool
    """Whether users will see the lists: true records exposures, as POST /rank does; false records none, for
    evaluations and for lists that may never be shown."""


class UncheckedRankings(Request):
    """The same before each ranking is checked."""

    rankings: list[object]
    shown: bool


class Item(Request):
    """Features of one item."""

    item_id: Id
    features: ItemFeatures
    """All of the item's features: they replace those stored before."""


class ItemsRequest(Request):
    """Features of items to be stored."""

    items: Annotated[list[Item], FailFast(), Field(min_length=1)]
    """At most 1,000 (`limits.max_behaviours`). Sending one again changes nothing; of one item, the last counts."""


class BehavioursRequest(Request):
    """Behaviours to be stored."""

    behaviours: Annotated[list[UserBehaviour], FailFast(), Field(min_length=1)]
    """In any order, at most 1,000 (a setting). Sending one again changes nothing."""


def _spelling(event: object) -> str:
    return "type" if isinstance(event, dict) and "type" in event else "action"


AnyFeedback = Annotated[
    Annotated[Feedback, Tag("action")] | Annotated[ActivityEvent, Tag("type")], Discriminator(_spelling)
]


class FeedbackRequest(Request):
    """Activity for the analysis of experiments; it does not change rankings."""

    feedback: Annotated[list[AnyFeedback], FailFast(), Field(min_length=1)]
    """At most 1,000 (a setting); each with either `type` or `action`."""
