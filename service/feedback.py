"""Activity for the analysis of experiments: what users did, joined to exposures by unit, to rankings by request id."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

import orjson

from service.exposures import ulid
from service.schemas import Feedback
from service.streams import EventSink

FEEDBACK_SCHEMA: Final = 1
_PSEUDONYM_DIGITS: Final = 32  # as in exposures: the two are joined by it


class FeedbackLog:
    """Writes activity to a sink; never waits.

    Args:
        sink: takes the JSON of each.
        on_feedback: called with the action of each that the sink took.
        pseudonym_key: as of the exposures.
    """

    def __init__(
        self, sink: EventSink, *, on_feedback: Callable[[str], None], pseudonym_key: bytes | None = None
    ) -> None:
        self._sink, self._on_feedback, self._pseudonym_key = sink, on_feedback, pseudonym_key

    def take(self, feedback: Sequence[Feedback], now_ms: int) -> int:
        """Take activity; return how many found room."""
        taken = 0
        for event in feedback:
            if self._sink.offer(self._event(event, now_ms)):
                self._on_feedback(event["action"])
                taken += 1
        return taken

    def _event(self, event: Feedback, now_ms: int) -> bytes:
        return orjson.dumps(
            {
                "v": FEEDBACK_SCHEMA,
                "id": ulid(now_ms),
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
