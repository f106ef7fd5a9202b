"""Activity for the analysis of experiments: what users did, joined to exposures by unit, to rankings by request id.

The id of an event is computed from the user and the client's event id, or else, if the event has a time, from its
content. A caller who does not know what became of a request can send it again: the repeat has the same ids, and readers
of the stream keep one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b, sha256
from typing import Literal

import orjson

from contract.events.activity import Report, activity_event, clamped
from contract.events.streams import pseudonym, ulid
from service.store.streams import EventSink, Receipt

Taken = Literal["", "clamped", "future", "full"]
"""The result of an event: taken ("clamped": with another time than the client's), or why it was not."""


class FeedbackLog:
    """Writes activity to a sink; never waits.

    Args:
        sink: takes the JSON of each.
        on_feedback: called with the action of each that the sink took.
        on_refused: called for each that was refused because its time lies ahead of the clock.
        on_clamped: called for each whose time was more than a day from the clock, and was moved.
        pseudonym_key: as of the exposures.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        on_feedback: Callable[[str], None],
        on_refused: Callable[[], None] = lambda: None,
        on_clamped: Callable[[], None] = lambda: None,
        pseudonym_key: bytes | None = None,
    ) -> None:
        self._sink, self._on_feedback = sink, on_feedback
        self._on_refused, self._on_clamped = on_refused, on_clamped
        self._pseudonym_key = pseudonym_key

    def take(
        self, feedback: Sequence[Report], now_ms: int, latest_ms: int, receipt: Receipt | None = None
    ) -> list[Taken]:
        """Take activity; return the result of each event.

        Args:
            feedback: the events.
            now_ms: when they came.
            latest_ms: a time after this cannot be right; it refuses an event with `action`.
            receipt: told when Redis has those that were taken.
        """
        return [self._take(event, now_ms, latest_ms, receipt) for event in feedback]

    def _take(self, event: Report, now_ms: int, latest_ms: int, receipt: Receipt | None) -> Taken:
        ts = event.get("ts", now_ms)
        if "action" in event and ts > latest_ms:
            self._on_refused()
            return "future"
        if not self._sink.offer(self._event(event, now_ms), receipt=receipt):
            return "full"
        self._on_feedback(event["action"] if "action" in event else event["type"])
        if "action" in event or clamped(ts, now_ms) == ts:
            return ""
        self._on_clamped()
        return "clamped"

    def _event(self, event: Report, now_ms: int) -> bytes:
        return orjson.dumps(activity_event(event, self._identity(event) or ulid(now_ms), now_ms, self._name))

    def _name(self, person: str) -> str:
        return pseudonym(person, self._pseudonym_key)

    def _identity(self, event: Report) -> str:
        """Return the id of an event that can be sent again, "" for any other; keyed, so that it tells no user."""
        key = sha256(self._pseudonym_key or b"").digest()
        if "event_id" in event:
            content = f"{event['user_id']}\0{event['event_id']}".encode()
            number = int.from_bytes(blake2b(content, digest_size=16, key=key).digest(), "big")
            return ulid(number >> 80, number & (2**80 - 1))
        if "ts" not in event:
            return ""
        content = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
        digest = blake2b(content, digest_size=10, key=key).digest()
        return ulid(event["ts"], int.from_bytes(digest, "big"))
