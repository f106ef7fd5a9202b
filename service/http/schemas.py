"""The wire: what a client sends and gets, as pydantic models. Strict: no coercion, and an unknown field is an error.

Requests are validated with these. Answers of the hot route are written as bytes (service/http/codec.py); these models
describe them for the OpenAPI document, and a test checks real answers against them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, FailFast, Field, Strict, with_config
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from contract.behaviours import DEFAULT_ACTION, MAX_PLAY_MS, MAX_TIME_MS, MAX_VALUE
from contract.grammar import ID_RULE, MAX_ID_BYTES, MIN_TIME_MS
from contract.tensors import Action
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
Value = Annotated[float, Field(ge=0, le=MAX_VALUE, description="A rating; kept in tenths.")]
ActionName = Annotated[Action, Field(description=f"What was done; default {DEFAULT_ACTION}.")]
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


@with_config(STRICT)
class Feedback(TypedDict):
    """What a user did with what was shown, for the analysis of experiments."""

    user_id: Id
    item_id: Id
    action: ActionName
    ts: NotRequired[TimeMs]
    request_id: NotRequired[Id]
    play_ms: NotRequired[PlayMs]
    value: NotRequired[Value]


class Request(BaseModel):
    """A request's body."""

    model_config = STRICT


class RankRequest(Request):
    """Candidates to be put in order for a user."""

    user_id: Id
    """The user; one whom nobody knows is welcome."""
    candidates: Annotated[list[Id], FailFast(), Field(min_length=1)]
    """Items to be ranked, 1 to 2,000 (a setting); a repeated one is ranked once, at its first place."""
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = Field(default_factory=lambda: MAX_LIMIT)
    """Only the best so many come back; default all."""
    recent: Annotated[list[Behaviour], FailFast()] = Field(default_factory=list)
    """Behaviours newer than those stored, at most 500 (a setting); used for this request, not stored."""
    attributes: Annotated[dict[Id, Attribute], Field(max_length=MAX_ATTRIBUTES)] = Field(default_factory=dict)
    """What experiments may target by: strings, numbers, booleans; never stored."""
    request_time: TimeMs = Field(
        default_factory=lambda: NOW,
        description="When the request counts as made (ms since the epoch), for replays; default now.",
    )
    explain: bool = False
    """Whether to say what was read, and what the model says of itself."""


class BehavioursRequest(Request):
    """Behaviours to be stored."""

    behaviours: Annotated[list[UserBehaviour], FailFast(), Field(min_length=1)]
    """In any order, at most 1,000 (a setting). Sending one again changes nothing."""


class FeedbackRequest(Request):
    """Activity for the analysis of experiments; it does not change rankings."""

    feedback: Annotated[list[Feedback], FailFast(), Field(min_length=1)]
    """At most 1,000 (a setting)."""


class Answer(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class RankedItem(Answer):
    """One candidate in its place."""

    item_id: str
    score: float | None
    """Comparable within this answer alone; null where the model has never seen the item."""
    known: Literal[False] | None = None
    """false if the model has never seen the item, or gave no finite score for it; absent otherwise."""


class Explanation(Answer):
    """Why the list is as it is: for people."""

    read: int
    """Behaviours that the store gave."""
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
    """Left out because the model has never seen their item."""
    unknown_candidates: int
    state_cached: bool
    """Whether the user's state was computed before."""
    user: dict[str, list[object]]
    """The model's own, of the user; Pyramid Mixer's `period_weights` of the short, middle and long period."""
    items: dict[str, list[object]]
    """The model's own, one entry for each answered item; MGNM's winning `level`."""


class RankResponse(Answer):
    """The candidates, best first; those that the model has never seen follow, in the order of the request."""

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
    """What the answer had to go without; empty when all is well."""
    parameters: dict[str, str | bool | int | float]
    """What the user's arm sets, in all layers of the experiment file, for the caller to act on; no name is in two
    layers. `model` and `version` here are the arm's, also where another model had to answer."""
    items: list[RankedItem]
    explanation: Explanation | None = None
    """With `explain` alone."""


class Refusal(Answer):
    """A behaviour that was not stored."""

    index: int
    """Its place in the request."""
    reason: RefusalReason
    """`future`: too far ahead of our clock. `wrong_type`: the user's key holds something else."""


class BehavioursResponse(Answer):
    """What became of the behaviours."""

    stored: int
    repeated: int
    """Stored before, or twice in the request."""
    refused: int
    refusals: list[Refusal]
    """All of them, in the order of the request."""


class FeedbackRefusal(Answer):
    """Events in a row that were not taken, all for one reason."""

    index: int
    """Place of the first one in the request."""
    count: int
    """How many there are in a row."""
    reason: Literal["future", "full"]
    """`future`: too far ahead of our clock. `full`: no room; send it again later."""


class FeedbackResponse(Answer):
    """What became of the activity; accepted, dropped and refused add up to what was sent."""

    accepted: int
    """Taken, to be written to the stream."""
    stored: int | None = None
    """In Redis; null unless asked for with `ack=stored`."""
    dropped: int
    """Found no room; sending it again later is safe."""
    refused: int
    """Have a time that cannot be right."""
    refusals: list[FeedbackRefusal]
    """Which ones were dropped or refused: all of them, in order."""


class StoredBehaviour(Answer):
    """A behaviour as it is stored."""

    item_key: str
    """The stored 64-bit key, in hexadecimal."""
    item_id: str | None
    """null where no loaded model knows the item."""
    ts: int
    action: str
    play_ms: int
    value: float


class StoredBehavioursResponse(Answer):
    """What is stored of a user, newest first."""

    user_id: str
    status: Literal["ok", "unavailable", "wrong_type"]
    corrupt: int
    truncated: bool
    """Whether older ones exist."""
    behaviours: list[StoredBehaviour]


class BundleInfo(Answer):
    """A bundle that is loaded."""

    name: str
    model: str
    version: str
    digest: str
    provider: str
    """Where it truly runs: cpu or cuda."""
    is_healthy: bool
    items: int
    length: int
    """Behaviours that it reads at most."""


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
    """What this service is."""

    service: Literal["ranker"]
    version: str
    contract_version: int
    bundles: list[BundleInfo]
    experiments: ExperimentsInfo | None
    limits: dict[str, int]
    """For each worker."""
    workers: list[WorkerInfo]


class HealthResponse(Answer):
    """Whether the service lives, or takes rankings."""

    status: Literal["alive", "ready", "loading", "draining"]


class ErrorDetail(Answer):
    """One field that cannot be used."""

    field: str
    message: str


class ErrorBody(Answer):
    """What went wrong."""

    code: str
    message: str
    request_id: str
    field: str | None = None
    """The first field that cannot be used, as the request names it."""
    details: list[ErrorDetail] | None = None
    """At most eight."""


class ErrorResponse(Answer):
    """Every answer of status 400 and above."""

    error: ErrorBody
