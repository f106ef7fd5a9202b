"""The calls of the service, for both clients: path, body, and meaning of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from ranker_client import results
from ranker_client.errors import NoAnswer, Refused
from ranker_client.retries import pause_asked_for

T = TypeVar("T")
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call.

    Attributes:
        method: of HTTP.
        path: of the route.
        parse: turns a good answer into the result.
        body: JSON, if it has one.
        is_safe: whether sending it twice does no harm, so that it may be repeated after a lost connection.
        tells_deadline: whether the service reads X-Deadline-Ms.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    body: Json | None = None
    is_safe: bool = True
    tells_deadline: bool = False


def answer_of(call: Call[T], response: httpx.Response) -> T:
    """Return the result of an answer.

    Raises:
        Refused: the answer is an error.
        NoAnswer: the answer is not one of the service, such as the page of a proxy.
    """
    if not response.is_success:
        raise refusal_of(response)
    try:
        return call.parse(response)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoAnswer(f"{response.status_code} is not an answer of the service: {error!r}") from error


def refusal_of(response: httpx.Response) -> Refused:
    """Return the error of an answer."""
    try:
        body = response.json()
    except ValueError:
        body = None
    headers = response.headers
    return results.refused_of(
        response.status_code, body, pause_asked_for(headers.get("retry-after"), headers.get("date"))
    )


def rank(user_id: str, candidates: Sequence[str], fields: Json) -> Call[results.Ranking]:
    """Order candidates."""

    def parse(response: httpx.Response) -> results.Ranking:
        headers = response.headers
        config = headers.get("x-ab-config")
        return results.ranking_of(
            response.json(), headers.get("x-ab-bucket", ""), config.strip('"') if config else None
        )

    body = {"user_id": user_id, "candidates": list(candidates), **fields}
    return Call("POST", "/rank", parse, body, tells_deadline=True)


def rank_batch(rankings: Iterable[Json], shown: bool) -> Call[list[results.RankResult]]:
    """Rank for many users."""

    def parse(response: httpx.Response) -> list[results.RankResult]:
        return [results.result_of(one) for one in response.json()["results"]]

    body = {"rankings": list(rankings), "shown": shown}
    return Call("POST", "/rank/batch", parse, body, tells_deadline=True)


def append_behaviours(behaviours: Iterable[Json]) -> Call[results.Appended]:
    """Store behaviours; the service drops repeats."""

    def parse(response: httpx.Response) -> results.Appended:
        body = response.json()
        return results.Appended(body["stored"], body["repeated"], body["refused"], results.refusals_of(body))

    return Call("POST", "/behaviours", parse, {"behaviours": list(behaviours)})


def store_items(items: Iterable[Json]) -> Call[results.ItemsStored]:
    """Store features of items."""

    def parse(response: httpx.Response) -> results.ItemsStored:
        body = response.json()
        return results.ItemsStored(body["stored"], body["refused"], results.refusals_of(body))

    return Call("POST", "/items", parse, {"items": list(items)})


def send_feedback(events: Iterable[Json], wait: bool) -> Call[results.FeedbackTaken]:
    """Send activity; a repeat is the same event only if it has an id or a time."""

    def parse(response: httpx.Response) -> results.FeedbackTaken:
        body = response.json()
        counts = (body["accepted"], body["stored"], body["dropped"], body["refused"])
        return results.FeedbackTaken(*counts, results.refusals_of(body))

    sent = list(events)
    is_safe = all("event_id" in event or "ts" in event for event in sent)
    path = "/feedback?ack=stored" if wait else "/feedback"
    return Call("POST", path, parse, {"feedback": sent}, is_safe=is_safe, tells_deadline=wait)


def info() -> Call[results.Info]:
    """Ask what the service is."""

    def parse(response: httpx.Response) -> results.Info:
        body = response.json()
        return results.Info(body["version"], body)

    return Call("GET", "/info", parse)


def is_ready() -> Call[bool]:
    """Ask whether rankings are taken."""
    return Call("GET", "/health/ready", lambda response: True)
