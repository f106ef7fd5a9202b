"""Feedback on its way to the stream."""

from __future__ import annotations

import json

from service.exposures import Exposures, Outcome
from service.feedback import FeedbackLog
from tests.fakes import NOW_MS, FakeExperiments


class Sink:
    def __init__(self, room: int = 10) -> None:
        self.events: list[bytes] = []
        self._room = room

    def offer(self, event: bytes, labels: tuple[str, ...] = ()) -> bool:
        if len(self.events) >= self._room:
            return False
        self.events.append(event)
        return True


def test_an_event_holds_what_was_sent_and_when_it_came() -> None:
    sink, actions = Sink(), list[str]()
    log = FeedbackLog(sink, on_feedback=actions.append)
    sent = {"user_id": "u1", "item_id": "i1", "action": "play", "request_id": "r", "play_ms": 7, "ts": 5}
    assert log.take([sent, {"user_id": "u1", "item_id": "i2", "action": "like"}], NOW_MS) == 2  # type: ignore[list-item]
    first, second = (json.loads(event) for event in sink.events)
    assert len(first.pop("id")) == 26
    assert first == {
        "v": 1, "ts": 5, "received": NOW_MS, "req": "r", "unit": "u1", "item": "i1", "action": "play",
        "play_ms": 7, "value": None,
    }  # fmt: skip
    assert (second["ts"], second["req"]) == (NOW_MS, None)
    assert actions == ["play", "like"]


def test_what_finds_no_room_is_not_counted_as_taken() -> None:
    actions = list[str]()
    log = FeedbackLog(Sink(room=1), on_feedback=actions.append)
    event = {"user_id": "u1", "item_id": "i1", "action": "play"}
    assert log.take([event, event], NOW_MS) == 1  # type: ignore[list-item]
    assert actions == ["play"]


def test_a_pseudonym_is_the_one_of_the_exposures() -> None:
    exposed, fed = Sink(), Sink()
    exposures = Exposures(exposed, on_exposure=lambda *_: None, pseudonym_key=b"key")
    exposures.record(FakeExperiments().decide("u1", {}, NOW_MS), Outcome("r", NOW_MS, "ok", "mgnm", "1", 1, 1))
    FeedbackLog(fed, on_feedback=lambda _: None, pseudonym_key=b"key").take(
        [{"user_id": "u1", "item_id": "i1", "action": "play"}], NOW_MS
    )
    unit = json.loads(fed.events[0])["unit"]
    assert unit == json.loads(exposed.events[0])["unit"]
    assert unit.startswith("h:")
