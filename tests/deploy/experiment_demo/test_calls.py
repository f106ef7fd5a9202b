"""The events that simulated users send, and their calls of the service."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from contract.command_line import CommandError
from contract.events.activity import missing_field
from contract.experiments.parse import parse_experiments
from deploy.experiment_demo import caller as calls
from deploy.experiment_demo.activity import Item, Visit, reports
from deploy.experiment_demo.clock import DAY_SECONDS, Clock
from deploy.experiment_demo.definition import AA, AB, experiments
from deploy.experiment_demo.people import User
from deploy.experiment_demo.session import View
from tests.support.http_answers import Answers

NOW = datetime(2026, 11, 25, tzinfo=UTC)
USER = User("simulated-00001", 3, 0.5, 0.25, "ios")
VIEWS = [View(4, 60.0, ("like", "follow")), View(2, 10.0, ("dislike",)), View(9, 80.0, ())]


def events_of(day: int = 2) -> list[dict[str, object]]:
    clock = Clock.after(1_700_000_000_123, 20_000)
    found = reports(
        Visit(USER, day, "req-1", VIEWS), lambda item: Item(f"i{item}", 60.0), lambda second: clock.real_ms(day, second)
    )
    return [dict(event) for event in found]


def test_a_visit_is_a_foreground_views_heartbeats_and_a_background_in_order_of_time() -> None:
    events = events_of()
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-1]) == ("foreground", "background")
    assert kinds.count("play_start") == kinds.count("play_end") == 3
    assert kinds.count("heartbeat") == 10  # (60 + 10 + 80 + 3 x 2) s
    assert [kind for kind in kinds if kind in ("like", "follow", "dislike")] == ["like", "follow", "dislike"]
    times = [event["ts"] for event in events]
    assert times == sorted(times)  # type: ignore[type-var]


def test_events_have_what_their_type_requires_and_ids_of_their_own() -> None:
    events = events_of()
    assert [missing_field(event) for event in events] == [None] * len(events)  # type: ignore[arg-type]
    assert len({event["event_id"] for event in events}) == len(events)
    assert len({event["event_id"] for event in events + events_of(day=3)}) == 2 * len(events)
    ends = [event for event in events if event["type"] == "play_end"]
    assert [(end["item_id"], end["play_ms"], end["duration_ms"]) for end in ends] == [
        ("i4", 60_000, 60_000), ("i2", 10_000, 60_000), ("i9", 80_000, 60_000)
    ]  # fmt: skip
    starts = [event["view_id"] for event in events if event["type"] == "play_start"]
    assert starts == [end["view_id"] for end in ends]


def test_a_simulated_day_begins_at_a_whole_day_and_shortens_every_duration() -> None:
    clock = Clock.after(1_700_000_000_123, 20_000)
    assert clock.start_ms % 20_000 == 0
    assert 0 < clock.start_ms - 1_700_000_000_123 <= 20_000
    assert clock.real_ms(3, DAY_SECONDS / 2) == clock.start_ms + 3 * 20_000 + 10_000


def test_the_file_has_an_ab_and_an_aa_experiment_on_all_users_in_two_layers() -> None:
    config, _ = parse_experiments(
        experiments({"popularity": "1", "pyramid_mixer": "2"}, NOW, NOW + timedelta(seconds=160))
    )
    found = {one.key: one for layer in config.layers for one in layer.experiments}
    assert {key: one.kind for key, one in found.items()} == {AB: "ab", AA: "aa"}
    assert len(config.layers) == 2
    assert all(one.slots == ((0, 10_000),) for one in found.values())


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_PAUSE_SECONDS", 0.0)


def posted(server: Answers, times: int = 1) -> tuple[list[object], dict[int, int]]:
    async def run() -> tuple[list[object], dict[int, int]]:
        async with calls.calling(int(server.url.rpartition(":")[2]), 2) as caller:
            found = await asyncio.gather(*(caller.post("/rank", {"n": number}) for number in range(times)))
            return [answer.body for answer in found], dict(caller.retried)

    return asyncio.run(run())


@pytest.mark.usefixtures("no_waiting")
def test_a_busy_service_is_asked_again_and_the_retries_are_counted() -> None:
    with Answers([(429, b"{}"), (503, b"{}"), (200, b'{"a": 1}')]) as server:
        assert posted(server) == ([{"a": 1}], {429: 1, 503: 1})


@pytest.mark.usefixtures("no_waiting")
def test_many_calls_share_a_few_connections() -> None:
    with Answers([(200, b'{"a": 1}')]) as server:
        bodies, retried = posted(server, times=20)
        assert bodies == [{"a": 1}] * 20
        assert retried == {}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(("answer", "said"), [((422, b'{"no": 1}'), "422"), ((429, b"{}"), "refused 8 times")])
def test_an_answer_that_does_not_get_better_is_an_error(answer: tuple[int, bytes], said: str) -> None:
    with Answers([answer]) as server, pytest.raises(CommandError, match=said):
        posted(server)
