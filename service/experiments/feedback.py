"""Activity for the analysis of experiments: what users did, joined to exposures by unit, to rankings by request id.

The id of an event that has a time of its own is computed from its content. A caller who does not know what became of a
request can send it again: the repeat has the same ids, and readers of the stream keep one of each.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from hashlib import blake2b, sha256
from typing import Final, Literal

import orjson

from service.experiments.exposures import ulid
from service.http.schemas import Feedback
from service.store.streams import EventSink, Receipt

Refused = Literal["", "future", "full"]  # why an event was not taken; "" where it was

FEEDBACK_SCHEMA: Final = 1
_PSEUDONYM_DIGITS: Final = 32  # as in exposures: the two are joined by it


class FeedbackLog:
    """Writes activity to a sink; never waits.

    Args:
        sink: takes the JSON of each.
        on_feedback: called with the action of each that the sink took.
        on_refused: called for each that was refused because its time lies ahead of the clock.
        pseudonym_key: as of the exposures.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        on_feedback: Callable[[str], None],
        on_refused: Callable[[], None] = lambda: None,
        pseudonym_key: bytes | None = None,
    ) -> None:
        self._sink, self._on_feedback, self._on_refused = sink, on_feedback, on_refused
        self._pseudonym_key = pseudonym_key

    def take(
        self, feedback: Sequence[Feedback], now_ms: int, latest_ms: int, receipt: Receipt | None = None
    ) -> list[Refused]:
        """Take activity; return for each event why it was not taken.

        Args:
            feedback: the events.
            now_ms: when they came.
            latest_ms: a time after this cannot be right.
            receipt: told when Redis has those that were taken.
        """
        return [self._take(event, now_ms, latest_ms, receipt) for event in feedback]

    def _take(self, event: Feedback, now_ms: int, latest_ms: int, receipt: Receipt | None) -> Refused:
        if event.get("ts", now_ms) > latest_ms:
            self._on_refused()
            return "future"
        if not self._sink.offer(self._event(event, now_ms), receipt=receipt):
            return "full"
        self._on_feedback(event["action"])
        return ""

    def _event(self, event: Feedback, now_ms: int) -> bytes:
        return orjson.dumps(
            {
                "v": FEEDBACK_SCHEMA,
                "id": self._identity(event) or ulid(now_ms),
                "ts": event.get("ts", now_ms),
                "received": now_ms,
                "req": event.get("request_id"),
                "unit": self._unit(event["user_id"]),
                "item": event["item_id"],
                "action": event["action"],
                "play_ms": event.get("play_ms"),
                "value": event.get("value"),
            }
        )

    def _unit(self, user_id: str) -> str:
        if self._pseudonym_key is None:
            return user_id
        return "h:" + hmac.new(self._pseudonym_key, user_id.encode(), sha256).hexdigest()[:_PSEUDONYM_DIGITS]

    def _identity(self, event: Feedback) -> str:
        """Return the id of an event that has a time, "" for any other; keyed, so that no one can guess a user by it."""
        if "ts" not in event:
            return ""
        content = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
        digest = blake2b(content, digest_size=10, key=sha256(self._pseudonym_key or b"").digest()).digest()
        return ulid(event["ts"], int.from_bytes(digest, "big"))
