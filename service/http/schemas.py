"""The wire format: requests and answers as pydantic models. Strict: no coercion, and an unknown field is an error.

Requests are validated with these. Answers of the hot route are written as bytes (service/http/rank_answer.py); these
models describe them for the OpenAPI document, and a test checks real answers against them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NotRequired, final

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Strict, Tag, with_config
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from contract.behaviours.actions import DEFAULT_ACTION, Action
from contract.behaviours.grammar import ID_RULE, MAX_ID_BYTES, MIN_TIME_MS
from contract.behaviours.records import MAX_PLAY_MS, MAX_TIME_MS, MAX_VALUE
from contract.events.activity import ActivityType
from service.names import RefusalReason

MAX_ATTRIBUTES: Final = 32
MAX_LIMIT: Final = 2**31 - 1
NOW: Final = -1  # a request time that was not given; no caller can send it

STRICT: Final = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

Id = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_ID_BYTES,
        description=f"{ID_RULE}; compared byte for byte.",
        examples=["42"],
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
Attribute = Annotated[str, Strict(), Field(max_length=MAX_ID_BYTES)] | bool | int | float


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
    attributes: Annotated[dict[Id, Attribute], Field(max_length=MAX_ATTRIBUTES)] = Field(default_factory=dict)
    """Attributes for experiment targets: strings, numbers, booleans; never stored."""
    request_time: TimeMs = Field(
        default_factory=lambda: NOW,
        description="The time of the request (ms since the epoch), for replays; default now.",
    )
    explain: bool = False
    """Whether to explain which behaviours were read, with the model's own explanation."""


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


class Answer(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class RankedItem(Answer):
    """One candidate in its place."""

    item_id: str
    score: float | None
    """Comparable only within this answer; null if the model does not know the item, or two models are interleaved."""
    known: Literal[False] | None = None
    """false if the model does not know the item, or gave no finite score for it; absent otherwise."""


class Explanation(Answer):
    """Explanation of the list, for people."""

    read: int
    """Behaviours from the store."""
    recent: int
    """Behaviours of the request that were not stored yet."""
    corrupt: int
    """Stored records that were dropped."""
    used: int
    """Behaviours that the model read."""
    truncated: int
    """Left out as too old for the model."""
    unread_behaviours: int
    """Left out because the model does not read their action."""
    unknown_behaviours: int
    """Left out because the model does not know their item."""
    unknown_candidates: int
    state_cached: bool
    """Whether the user's state came from the cache."""
    user: dict[str, list[object]]
    """The model's explanation of the user; Pyramid Mixer's `period_weights` of the short, middle and long period."""
    items: dict[str, list[object]]
    """The model's explanation, one entry for each answered item; MGNM's winning `level`."""


class RankResponse(Answer):
    """The candidates, best first; those that the model does not know are where the arm's `cold` puts them."""

    request_id: str
    model: str
    version: str
    degraded: list[
        Literal[
            "store_unavailable",
            "behaviours_corrupt",
            "history_unknown",
            "bundle_unavailable",
            "bundle_slow",
            "unscored_items",
            "popularity",
        ]
    ]
    """Reasons why the answer is not full quality; empty otherwise."""
    parameters: dict[str, str | bool | int | float]
    """The parameters of the user's arm in all layers of the experiment file, for the caller to act on; no two layers
    share a name. `model` and `version` here are the arm's, even if another model answered."""
    items: list[RankedItem]
    explanation: Explanation | None = None
    """Only with `explain`."""


class Refusal(Answer):
    """A behaviour that was not stored."""

    index: int
    """Its place in the request."""
    reason: RefusalReason
    """`future`: too far ahead of the service's clock. `wrong_type`: the user's key has another type."""


class BehavioursResponse(Answer):
    """The result of storing behaviours."""

    stored: int
    repeated: int
    """Stored before, or twice in the request."""
    refused: int
    refusals: list[Refusal]
    """All of them, in the order of the request."""


class FeedbackRefusal(Answer):
    """Consecutive events that were not accepted, all for one reason."""

    index: int
    """Place of the first one in the request."""
    count: int
    """Number of consecutive events."""
    reason: Literal["future", "full"]
    """`future`: too far ahead of the service's clock. `full`: the queue is full; send it again later."""


class FeedbackResponse(Answer):
    """The result of feedback; accepted, dropped and refused add up to the number sent."""

    accepted: int
    """Accepted, to be written to the stream."""
    stored: int | None = None
    """In Redis; null unless asked for with `ack=stored`."""
    dropped: int
    """Dropped because the queue is full; sending it again later is safe."""
    refused: int
    """Refused because of an invalid time."""
    clamped: int | None = Field(default=None, exclude_if=lambda count: count is None)
    """Accepted with a time that was moved to within a day of the service's clock; absent if no event has a `type`."""
    refusals: list[FeedbackRefusal]
    """All dropped or refused events, in order."""


class StoredBehaviour(Answer):
    """A behaviour as it is stored."""

    item_key: str
    """The stored 64-bit key, in hexadecimal."""
    item_id: str | None
    """null if no loaded model knows the item."""
    ts: int
    action: str
    play_ms: int
    value: float


class StoredBehavioursResponse(Answer):
    """A user's stored behaviours, newest first."""

    user_id: str
    status: Literal["ok", "unavailable", "wrong_type"]
    corrupt: int
    truncated: bool
    """Whether there are older ones."""
    behaviours: list[StoredBehaviour]


class BundleInfo(Answer):
    """A loaded bundle."""

    name: str
    model: str
    version: str
    digest: str
    provider: str
    """The provider that runs it: cpu or cuda."""
    is_healthy: bool
    items: int
    length: int
    """Maximum number of behaviours that it reads."""


class ExperimentsInfo(Answer):
    """The experiments in force."""

    digest: str
    revision: str


class WorkerInfo(Answer):
    """One of the processes behind the port."""

    worker: int
    process_id: int
    restarts: int
    """How many times a worker of this number was started again."""
    status: Literal["ready", "loading", "draining", "ended"]
    experiments: str | None
    """Digest of the experiments in force."""


class InfoResponse(Answer):
    """Description of this service."""

    service: Literal["ranker"]
    version: str
    contract_version: int
    bundles: list[BundleInfo]
    experiments: ExperimentsInfo | None
    limits: dict[str, int]
    """For each worker."""
    workers: list[WorkerInfo]


class HealthResponse(Answer):
    """Whether the service is alive, or accepts rankings."""

    status: Literal["alive", "ready", "loading", "draining"]


class ErrorDetail(Answer):
    """One invalid field."""

    field: str
    message: str


class ErrorBody(Answer):
    """The error."""

    code: str
    message: str
    request_id: str
    field: str | None = None
    """The first invalid field, as named in the request."""
    details: list[ErrorDetail] | None = None
    """At most eight."""


class ErrorResponse(Answer):
    """Every answer of status 400 and above."""

    error: ErrorBody
