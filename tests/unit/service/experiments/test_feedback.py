"""Feedback on its way to the stream."""

from __future__ import annotations

import json
from typing import Any

from service.experiments.exposures import Exposures, Outcome
from service.experiments.feedback import FeedbackLog
from service.http.requests import Feedback
from service.store.streams import Receipt
from tests.support.fakes import NOW_MS, FakeExperiments


class Sink:
    def __init__(self, room: int = 10) -> None:
        self.events: list[bytes] = []
        self._room = room

    def offer(self, event: bytes, labels: tuple[str, ...] = (), receipt: Receipt | None = None) -> bool:
        if len(self.events) >= self._room:
            return False
        self.events.append(event)
        return True


def test_an_event_holds_what_was_sent_and_when_it_came() -> None:
    sink, actions = Sink(), list[str]()
    log = FeedbackLog(sink, on_feedback=actions.append)
    sent = {"user_id": "u1", "item_id": "i1", "action": "play", "request_id": "r", "play_ms": 7, "ts": 5}
    assert log.take([sent, {"user_id": "u1", "item_id": "i2", "action": "like"}], NOW_MS, NOW_MS) == ["", ""]  # type: ignore[list-item]
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
    assert log.take([event, event], NOW_MS, NOW_MS) == ["", "full"]  # type: ignore[list-item]
    assert actions == ["play"]


def test_a_pseudonym_is_the_one_of_the_exposures() -> None:
    exposed, fed = Sink(), Sink()
    exposures = Exposures(exposed, on_exposure=lambda *_: None, pseudonym_key=b"key")
    exposures.record(FakeExperiments().decide("u1", {}, NOW_MS), Outcome("r", NOW_MS, "ok", "mgnm", "1", 1, 1))
    FeedbackLog(fed, on_feedback=lambda _: None, pseudonym_key=b"key").take(
        [{"user_id": "u1", "item_id": "i1", "action": "play"}], NOW_MS, NOW_MS
    )
    unit = json.loads(fed.events[0])["unit"]
    assert unit == json.loads(exposed.events[0])["unit"]
    assert unit.startswith("h:")


EVENT: Feedback = {"user_id": "u1", "item_id": "i1", "action": "like", "ts": NOW_MS - 5}


def ids(*events: Feedback, key: bytes | None = None, now_ms: int = NOW_MS) -> list[str]:
    sink = Sink()
    FeedbackLog(sink, on_feedback=lambda _: None, pseudonym_key=key).take(events, now_ms, now_ms)
    return [json.loads(event)["id"] for event in sink.events]


def test_an_event_that_is_sent_again_has_the_same_id() -> None:
    repeat: Feedback = {"ts": NOW_MS - 5, "action": "like", "item_id": "i1", "user_id": "u1"}
    first, again = ids(EVENT), ids(repeat, now_ms=NOW_MS + 60_000)
    assert first == again
    assert len(first[0]) == 26
    assert ids({**EVENT, "ts": 1})[0] < first[0]  # the id begins with the event's time


def test_every_field_makes_another_event() -> None:
    others: list[Feedback] = [
        {**EVENT, "user_id": "u2"}, {**EVENT, "item_id": "i2"}, {**EVENT, "action": "play"}, {**EVENT, "ts": NOW_MS},
        {**EVENT, "request_id": "r"}, {**EVENT, "play_ms": 1}, {**EVENT, "value": 1.0},
    ]  # fmt: skip
    assert len(set(ids(EVENT, *others))) == len(others) + 1


def test_an_event_without_a_time_is_a_new_one_each_time() -> None:
    event: Feedback = {"user_id": "u1", "item_id": "i1", "action": "like"}
    assert len(set(ids(event, event))) == 2


def test_an_id_does_not_tell_the_user_behind_a_pseudonym() -> None:
    assert ids(EVENT, key=b"secret") != ids(EVENT)
    assert ids(EVENT, key=b"secret") == ids(EVENT, key=b"secret")


def test_an_event_from_the_future_is_refused_and_counted() -> None:
    refused = list[int]()
    log = FeedbackLog(Sink(), on_feedback=lambda _: None, on_refused=lambda: refused.append(1))
    events: list[Feedback] = [{**EVENT, "ts": NOW_MS + 11}, {**EVENT, "ts": NOW_MS + 10}]
    assert log.take(events, NOW_MS, NOW_MS + 10) == ["future", ""]
    assert len(refused) == 1


def typed(**more: object) -> Any:  # Any: checked by the schema, not here
    return {"user_id": "u1", "type": "like", "item_id": "i1", "event_id": "e1", "ts": NOW_MS - 5, **more}


def test_the_id_of_an_event_with_an_event_id_depends_on_the_user_and_that_only() -> None:
    first = ids(typed())
    assert first == ids(typed(ts=NOW_MS, type="share", item_id="i2"), now_ms=NOW_MS + 60_000)
    others = [typed(event_id="e2"), typed(user_id="u2"), typed(user_id="u1e", event_id="1")]
    assert len({*first, *ids(*others)}) == 4
    assert ids(typed(), key=b"secret") != first
    assert len(first[0]) == 26


def test_a_typed_event_without_an_event_id_is_known_by_its_content_if_it_has_a_time() -> None:
    event = {key: value for key, value in typed().items() if key != "event_id"}
    assert len(set(ids(event, event))) == 1  # type: ignore[arg-type]
    del event["ts"]
    assert len(set(ids(event, event))) == 2  # type: ignore[arg-type]


def test_the_time_of_a_typed_event_is_moved_and_counted_and_the_event_taken() -> None:
    sink, moved, types = Sink(), list[int](), list[str]()
    log = FeedbackLog(sink, on_feedback=types.append, on_clamped=lambda: moved.append(1))
    day = 86_400_000
    sent = [typed(ts=NOW_MS + day), typed(ts=NOW_MS + day + 1), typed(ts=NOW_MS - day - 1)]
    assert log.take(sent, NOW_MS, NOW_MS) == ["", "clamped", "clamped"]
    assert (len(moved), types) == (2, ["like"] * 3)
    assert [json.loads(event)["ts"] - NOW_MS for event in sink.events] == [day, day, -day]


def test_devices_and_authors_get_pseudonyms_and_an_author_the_one_of_a_user() -> None:
    sink = Sink()
    log = FeedbackLog(sink, on_feedback=lambda _: None, pseudonym_key=b"key")
    log.take([typed(device_id="phone", author_id="u1")], NOW_MS, NOW_MS)
    event = json.loads(sink.events[0])
    assert event["author"] == event["unit"]
    assert event["device"].startswith("h:")
    assert b"phone" not in sink.events[0]
    assert b"e1" not in sink.events[0].replace(event["id"].encode(), b"")
