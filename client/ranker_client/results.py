"""The results of calls. Fields that a newer service adds are in `raw`, or are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranker_client.errors import Refused

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One candidate in its place.

    Attributes:
        item_id: of the candidate.
        score: comparable only within this answer; None if the model does not know the item.
        known: False if the model does not know the item; True otherwise, also if its features gave the score.
    """

    item_id: str
    score: float | None
    known: bool = True


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates, best first.

    Attributes:
        request_id: to be named in feedback.
        model: that answered.
        version: of the model.
        items: best first.
        degraded: reasons why the answer is not full quality; empty if all is well.
        parameters: of the user's arm, for the caller to act on.
        bucket: the value of X-AB-Bucket.
        config: digest of the experiment file; None until one is accepted.
        raw: the whole answer.
    """

    request_id: str
    model: str
    version: str
    items: tuple[Item, ...]
    degraded: tuple[str, ...]
    parameters: Json
    bucket: str
    config: str | None
    raw: Json

    @property
    def item_ids(self) -> list[str]:
        """Return the ids, best first."""
        return [item.item_id for item in self.items]


@dataclass(frozen=True, slots=True)
class RankResult:
    """One ranking of many: either `ranking` or `error`."""

    bucket: str
    ranking: Ranking | None = None
    error: Refused | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """One of many that was not taken; `count` consecutive ones from place `index` on."""

    index: int
    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of storing behaviours."""

    stored: int
    repeated: int
    refused: int
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class ItemsStored:
    """The result of storing features of items."""

    stored: int
    refused: int
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class FeedbackTaken:
    """The result of feedback; `stored` is None unless the call waited for Redis."""

    accepted: int
    stored: int | None
    dropped: int
    refused: int
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Info:
    """The version of the service, and all that it tells of itself."""

    version: str
    raw: Json


def ranking_of(body: Json, bucket: str, config: str | None) -> Ranking:
    """Return the ranking of an answer."""
    items = tuple(Item(one["item_id"], one["score"], one.get("known", True) is not False) for one in body["items"])
    return Ranking(
        request_id=body["request_id"],
        model=body["model"],
        version=body["version"],
        items=items,
        degraded=tuple(body["degraded"]),
        parameters=body["parameters"],
        bucket=bucket,
        config=config,
        raw=body,
    )


def result_of(one: Json) -> RankResult:
    """Return one result of POST /rank/batch."""
    if "ranking" in one:
        return RankResult(one["bucket"], ranking=ranking_of(one["ranking"], one["bucket"], one.get("config")))
    return RankResult(one["bucket"], error=refused_of(one["status"], one, None))


def refusals_of(body: Json) -> tuple[Refusal, ...]:
    """Return what was not taken, and why."""
    return tuple(
        Refusal(one["index"], one.get("reason") or one.get("problem") or "", one.get("count", 1))
        for one in body["refusals"]
    )


def refused_of(status: int, body: Any, retry_after: float | None) -> Refused:
    """Return the error of an answer; one that a proxy wrote has no code."""
    error = body.get("error", {}) if isinstance(body, Mapping) else {}
    error = error if isinstance(error, Mapping) else {}
    return Refused(
        status, error.get("code", "unknown"), error.get("message", "no message"), error.get("request_id"),
        error.get("field"), retry_after,
    )  # fmt: skip
