"""The parts of one attempt that both clients share: arguments of the request, and the meaning of errors of httpx."""

from __future__ import annotations

import gzip
import json
from typing import Any, Final, TypedDict

import httpx

from ranker_client.calls import Call
from ranker_client.errors import DeadlinePassed, NoAnswer, RankerError
from ranker_client.retries import Budget, Retries

_LARGE_BYTES: Final = 1_024  # gzip saves nothing below
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Parts(TypedDict):
    """Arguments of `httpx.Client.request`."""

    content: bytes | None
    headers: dict[str, str]
    timeout: httpx.Timeout


def default_headers(api_key: str | None) -> dict[str, str]:
    """Return the headers of every request."""
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def parts_of(call: Call[Any], budget: Budget, headers: dict[str, str], *, compress: bool) -> Parts:
    """Return the arguments of one attempt.

    Raises:
        DeadlinePassed: no time is left for it.
    """
    left = budget.left
    if left <= 0:
        raise DeadlinePassed("the call's budget is used up")
    sent = dict(headers)
    if call.tells_deadline:
        sent["x-deadline-ms"] = str(max(1, min(int(left * 1000), 999_999_999)))
    content = (
        None
        if call.body is None
        else json.dumps(call.body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    )
    if content is not None:
        sent["content-type"] = "application/json"
    if content is not None and compress and len(content) >= _LARGE_BYTES:
        content = gzip.compress(content, compresslevel=1)
        sent["content-encoding"] = "gzip"
    return {"content": content, "headers": sent, "timeout": httpx.Timeout(left)}


def meaning_of(error: httpx.RequestError, call: Call[Any]) -> tuple[RankerError, bool]:
    """Return the error of a call for one of httpx, and whether the request may be sent again."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, _NEVER_SENT):
        return DeadlinePassed(f"no answer within the call's budget: {type(error).__name__}"), False
    return NoAnswer(f"{type(error).__name__}: {error}"), call.is_safe or isinstance(error, _NEVER_SENT)


def pause_before_next(retries: Retries, attempt: int, error: RankerError, budget: Budget) -> float | None:
    """Return the seconds to wait before the next attempt; None if there is none."""
    pause = retries.pause(attempt, error)
    return pause if budget.allows(pause) else None
