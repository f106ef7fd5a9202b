"""Activity for the analysis of experiments: what users did, joined to exposures by unit, to rankings by request id.

The id of an event that has a time of its own is computed from its content. A caller who does not know what became of a
request can send it again: the repeat has the same ids, and readers of the stream keep one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b, sha256
from typing import Literal

import orjson

from contract.events import Activity, activity_event, pseudonym, ulid
from service.store.streams import EventSink, Receipt

Refused = Literal["", "future", "full"]  # why an event was not taken; "" where it was


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
        self, feedback: Sequence[Activity], now_ms: int, latest_ms: int, receipt: Receipt | None = None
    ) -> list[Refused]:
        """Take activity; return for each event why it was not taken.

        Args:
            feedback: the events.
            now_ms: when they came.
            latest_ms: a time after this cannot be right.
            receipt: told when Redis has those that were taken.
        """
        return [self._take(event, now_ms, latest_ms, receipt) for event in feedback]

    def _take(self, event: Activity, now_ms: int, latest_ms: int, receipt: Receipt | None) -> Refused:
        if event.get("ts", now_ms) > latest_ms:
            self._on_refused()
            return "future"
        if not self._sink.offer(self._event(event, now_ms), receipt=receipt):
            return "full"
        self._on_feedback(event["action"])
        return ""

    def _event(self, event: Activity, now_ms: int) -> bytes:
        unit = pseudonym(event["user_id"], self._pseudonym_key)
        return orjson.dumps(activity_event(event, self._identity(event) or ulid(now_ms), unit, now_ms))

    def _identity(self, event: Activity) -> str:
        """Return the id of an event that has a time, "" for any other; keyed, so that no one can guess a user by it."""
        if "ts" not in event:
            return ""
        content = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
        digest = blake2b(content, digest_size=10, key=sha256(self._pseudonym_key or b"").digest()).digest()
        return ulid(event["ts"], int.from_bytes(digest, "big"))
