"""The bodies of answers as pydantic models.

The usual POST /rank is answered with bytes (rank_answer.py); the models describe it for the OpenAPI document, and a
test checks real answers against them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from service.names import RefusalReason


class Answer(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class RankedItem(Answer):
    """One candidate in its place."""

    item_id: str
    score: float | None
    """Comparable only within this answer; after the arm's rules. null if the model does not know the item, or two
    models are interleaved."""
    known: Annotated[
        Literal[False, "features"] | None, WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}]})
    ] = None
    """false if the model does not know the item, or gave no finite score for it; `features` if it does not know the
    item, and the score comes from the request's features of it; absent otherwise."""
    rules: list[str] | None = None
    """The rules of the arm that moved the item, in their order; absent if none did."""


class ContextInput(Answer):
    """An input of the request's context as the model read it."""

    value: int | str | None
    """`hour`: 0 to 23, in the user's time zone; `gap`: seconds since the newest behaviour that the model read; else the
    attribute's text. null if the model read "not known"."""
    code: int
    """The model's input; 0 is "not known"."""
    result: Literal["known", "default", "missing", "unknown"]
    """`known`: from the request, or for `gap` from the behaviours. `default`: the hour in the bundle's time zone,
    because the request has no `tz_offset`. `missing`: the request does not have it, or no behaviour was read.
    `unknown`: training did not have this value."""


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
    """The model's explanation, one entry for each answered item; MGNM's winning `level`. With rules, also
    `score.before` and `score.after`."""
    context: dict[str, ContextInput]
    """The inputs of the request's context that the model read, by name; of interleaved models those of the control's.
    Empty if the model reads none, or did not answer."""


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
    ignored_context: list[str] | None = None
    """Names of the request's `context` that the bundle does not read; absent if there are none."""


class ItemRefusal(Answer):
    """An item whose features were not stored."""

    index: int
    """Its place in the request."""
    problem: str
    """Names the feature that no served bundle can read."""


class ItemsResponse(Answer):
    """The result of storing features of items."""

    stored: int
    refused: int
    refusals: list[ItemRefusal]
    """All of them, in the order of the request."""


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
    tracks: dict[str, str]
    """The version in force of each track, by `model/track`."""


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


class BatchResult(Answer):
    """The answer to one ranking: what POST /rank would have answered, with its status and headers."""

    status: int
    bucket: str
    """As X-AB-Bucket."""
    config: str | None = None
    """As X-AB-Config, without quotes; absent until an experiment file is accepted."""
    ranking: RankResponse | None = None
    """With status 200."""
    error: ErrorBody | None = None
    """With any other status."""


class RankBatchResponse(Answer):
    """The results, in the order of the request."""

    request_id: str
    results: list[BatchResult]
