"""Hand-made sequences of events with the metrics that they must give.

Each is one unit that is first exposed at 08:00 UTC; times are seconds from then, and the window and the period before
have 7 days. Metrics that are not named are 0.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

Event = tuple[float, str, dict[str, Any]]

MIDNIGHT: Final = 16 * 3_600  # UTC, after the exposure
WINDOW: Final = 7 * 86_400


class Sequence(NamedTuple):
    """A unit: what it shows, its events, and its metrics."""

    name: str
    events: list[Event]
    expected: dict[str, float]


def e(seconds: float, name: str, **fields: Any) -> Event:
    """An event."""
    return seconds, name, fields


def beats(first: int, last: int, step: int = 15, **fields: Any) -> list[Event]:
    """Heartbeats from one second to another."""
    return [e(second, "heartbeat", **fields) for second in range(first, last + 1, step)]


def view(seconds: float, name: str, play: float, length: float, wall: float | None = None) -> list[Event]:
    """A view that takes as long as it plays, or another time; outside the foreground."""
    end = seconds + (play if wall is None else wall)
    return [
        e(seconds, "play_start", view=name, duration_ms=int(length * 1000)),
        e(end, "play_end", view=name, play_ms=int(play * 1000)),
    ]


def stay(seconds: float, days: float = 1, hours: float = 1) -> dict[str, float]:
    """The three metrics of time in the foreground."""
    return {"active_days": days, "active_hours": hours, "stay_duration": seconds}


def played(playtime: float, valid: int, finished: int, views: int = 1) -> dict[str, float]:
    """The four metrics of views."""
    return {"playtime": playtime, "play": views, "valid_play": valid, "finish": finished}


_SPANS = [
    Sequence("a: foreground to background", [e(10, "foreground"), e(70, "background")], stay(60)),
    Sequence("a: background without foreground is nothing", [e(10, "background"), e(20, "background")], {}),
    Sequence("a: events without foreground are nothing", [*beats(0, 60)], {}),
    Sequence(
        "a: events after background are not in front",
        [e(0, "foreground"), e(20, "background"), e(30, "heartbeat"), e(40, "heartbeat")],
        stay(20),
    ),
    Sequence(
        "a: a second background changes nothing",
        [e(0, "foreground"), e(9, "background"), e(99, "background")],
        stay(9),
    ),
    Sequence("b: no background: the last event and 30 s", [e(0, "foreground"), e(15, "heartbeat")], stay(45)),
    Sequence("b: foreground is the only event", [e(0, "foreground")], stay(30)),
    Sequence("b: any event of the device is its last", [e(0, "foreground"), e(7, "impression")], stay(37)),
    Sequence(
        "b: never past the next foreground",
        [e(0, "foreground"), e(10, "heartbeat"), e(25, "foreground"), e(26, "background")],
        stay(26),
    ),
    Sequence(
        "b: background lost, the next foreground 60 s after the last event",
        [e(0, "foreground"), e(60, "foreground"), e(70, "background")],
        stay(40),
    ),
    Sequence(
        "b and c: background lost, the next foreground 59.999 s after the last event",
        [e(0, "foreground"), e(59.999, "foreground"), e(70, "background")],
        stay(70),
    ),
    Sequence(
        "c: a gap of 29.999 s counts",
        [e(0, "foreground"), e(10, "background"), e(39.999, "foreground"), e(50, "background")],
        stay(50),
    ),
    Sequence(
        "c: a gap of 30 s does not count",
        [e(0, "foreground"), e(10, "background"), e(40, "foreground"), e(50, "background")],
        stay(20),
    ),
    Sequence(
        "c: gaps are closed one after the other",
        [event for start in (0, 30, 60) for event in (e(start, "foreground"), e(start + 10, "background"))],
        stay(70),
    ),
    Sequence(
        "c: spans of two devices are not merged over a gap",
        [
            e(0, "foreground", device="phone"), e(10, "background", device="phone"),
            e(20, "foreground", device="tablet"), e(30, "background", device="tablet"),
        ],
        stay(20),
    ),
    Sequence("f: a silence of 120 s counts", [e(0, "foreground"), e(120, "background")], stay(120)),
    Sequence(
        "f and b: of a silence of 120.001 s the first 30 s count",
        [e(0, "foreground"), e(120.001, "background")],
        stay(30),
    ),
    Sequence(
        "f: an event after the silence continues the span",
        [e(0, "foreground"), e(15, "heartbeat"), e(400, "heartbeat"), e(415, "background")],
        stay(60),
    ),
    Sequence(
        "f and b: the last event after a silence has its 30 s too",
        [e(0, "foreground"), e(1_000, "heartbeat")],
        stay(60),
    ),
    Sequence("f: heartbeats fill a long span", [e(0, "foreground"), *beats(15, 900), e(905, "background")], stay(905)),
    Sequence(
        "f: a silence that ends with background counts as one without",
        [e(0, "foreground"), e(15, "heartbeat"), e(600, "background")],
        stay(45),
    ),
    Sequence(
        "f: a silence of three hours leaves the hours between out",
        [e(0, "foreground"), e(3 * 3_600, "heartbeat"), e(3 * 3_600 + 5, "background")],
        stay(35, hours=2),
    ),
]  # fmt: skip

_DAYS = [
    Sequence(
        "d: midnight splits a span into two days",
        [e(MIDNIGHT - 30, "foreground"), e(MIDNIGHT + 30, "background")],
        stay(60, days=2, hours=2),
    ),
    Sequence(
        "d: half a second on each side of midnight is not an active day",
        [e(MIDNIGHT - 0.5, "foreground"), e(MIDNIGHT + 0.5, "background")],
        stay(1, days=0, hours=0),
    ),
    Sequence("d: one second is an active day and hour", [e(5, "foreground"), e(6, "background")], stay(1)),
    Sequence("d: 999 ms are not", [e(5, "foreground"), e(5.999, "background")], stay(0.999, days=0, hours=0)),
    Sequence(
        "d: two short spans of an hour make an active hour, not an active day",
        [e(0, "foreground"), e(0.6, "background"), e(600, "foreground"), e(600.6, "background")],
        stay(1.2, days=0, hours=1),
    ),
    Sequence(
        "d: a span over the hour counts in both hours",
        [e(3_590, "foreground"), e(3_610, "background")],
        stay(20, hours=2),
    ),
    Sequence(
        "d: the same hour on two days is two active hours",
        [e(0, "foreground"), e(9, "background"), e(86_400, "foreground"), e(86_409, "background")],
        stay(18, days=2, hours=2),
    ),
    Sequence(
        "d: local midnight, 5:30 h east of UTC",
        [e(37_800 - 20, "foreground", tz_offset=330), e(37_800 + 20, "background", tz_offset=330)],
        stay(40, days=2, hours=2),
    ),
    Sequence(
        "d: UTC midnight is not midnight 5:30 h east, and not a full hour",
        [e(MIDNIGHT - 20, "foreground", tz_offset=330), e(MIDNIGHT + 20, "background", tz_offset=330)],
        stay(40),
    ),
    Sequence(
        "d: a traveller keeps the zone from before the exposure",
        [
            e(-100, "foreground", tz_offset=0), e(-90, "background", tz_offset=0),
            e(MIDNIGHT - 600, "foreground", tz_offset=480), e(MIDNIGHT - 560, "background", tz_offset=480),
        ],
        stay(40) | {"active_days_pre": 1, "active_hours_pre": 1, "stay_duration_pre": 10},
    ),
    Sequence(
        "d: an impossible zone is ignored",
        [e(MIDNIGHT - 20, "foreground", tz_offset=900), e(MIDNIGHT + 20, "background")],
        stay(40, days=2, hours=2),
    ),
    Sequence(
        "e: devices at the same time are united",
        [
            e(0, "foreground", device="phone"), e(60, "background", device="phone"),
            e(30, "foreground", device="tablet"), e(90, "background", device="tablet"),
        ],
        stay(90),
    ),
    Sequence(
        "e: one device inside the time of another",
        [
            e(0, "foreground", device="phone"), e(100, "background", device="phone"),
            e(20, "foreground", device="tablet"), e(40, "background", device="tablet"),
        ],
        stay(100),
    ),
    Sequence(
        "e: the background of one device does not close another",
        [e(0, "foreground", device="phone"), e(5, "background", device="tablet"), e(50, "background", device="phone")],
        stay(50),
    ),
    Sequence(
        "e: devices that follow each other make one span of a second",
        [
            e(0, "foreground", device="phone"), e(0.5, "background", device="phone"),
            e(0.5, "foreground", device="tablet"), e(1, "background", device="tablet"),
        ],
        stay(1),
    ),
    Sequence(
        "g: a day counts 16 hours",
        [e(MIDNIGHT, "foreground"), *beats(MIDNIGHT + 60, MIDNIGHT + 20 * 3_600, 60)],
        stay(16 * 3_600, hours=21),
    ),
    Sequence(
        "g: the cap is per local day",
        [
            e(MIDNIGHT + 12 * 3_600, "foreground"),
            *beats(MIDNIGHT + 12 * 3_600 + 100, MIDNIGHT + 36 * 3_600 - 100, 100),
            e(MIDNIGHT + 36 * 3_600, "background"),
        ],
        stay(24 * 3_600, days=2, hours=24),
    ),
]  # fmt: skip

_WINDOWS = [
    Sequence(
        "window: a span over the exposure is cut there",
        [e(-20, "foreground"), e(40, "background")],
        stay(40) | {"active_days_pre": 1, "active_hours_pre": 1, "stay_duration_pre": 20},
    ),
    Sequence(
        "window: the time before does not depend on what follows the exposure",
        [e(-60, "foreground"), e(50, "background")],
        stay(50) | {"active_days_pre": 1, "active_hours_pre": 1, "stay_duration_pre": 30},
    ),
    Sequence(
        "window: the end is not part of it",
        [e(WINDOW - 10, "foreground"), e(WINDOW, "like", item="i"), e(WINDOW + 5, "background")],
        stay(10),
    ),
    Sequence(
        "window: the period before is as long",
        [e(-WINDOW, "like", item="i"), e(-WINDOW - 0.001, "like", item="j"), e(0, "like", item="k")],
        {"like_pre": 1, "like": 1},
    ),
    Sequence(
        "window: a span that was open before the period is known",
        [e(-WINDOW - 10, "foreground"), e(-WINDOW + 10, "background")],
        {"active_days_pre": 1, "active_hours_pre": 1, "stay_duration_pre": 10},
    ),
    Sequence(
        "window: an item counts in each period for itself",
        [e(-50, "like", item="i"), e(50, "like", item="i")],
        {"like_pre": 1, "like": 1},
    ),
    Sequence(
        "window: an undo after the exposure does not change the period before",
        [e(-10, "like", item="i"), e(5, "unlike", item="i")],
        {"like_pre": 1},
    ),
    Sequence(
        "window and g: the hours before the exposure do not use up its day",
        [e(-8 * 3_600, "foreground"), *beats(-8 * 3_600 + 30, MIDNIGHT - 30, 60), e(MIDNIGHT, "background")],
        stay(16 * 3_600, hours=16) | {"active_days_pre": 1, "active_hours_pre": 8, "stay_duration_pre": 8 * 3_600},
    ),
    Sequence(
        "window: a view over the exposure is in neither period as a whole",
        view(-5, "v", 10, 20),
        {"play_pre": 1},
    ),
]

_VIEWS = [
    Sequence("play: start and end by view id", view(0, "v", 12, 30), played(12, 1, 0)),
    Sequence("play: the whole length is a finish", view(0, "v", 30, 30), played(30, 1, 1)),
    Sequence("play: loops count, a finish once", view(0, "v", 95, 30), played(95, 1, 1)),
    Sequence("play: at most three times the clock", view(0, "v", 100, 200, wall=20), played(60, 1, 0)),
    Sequence("play: preloaded, never shown", view(0, "v", 9, 200, wall=0), played(0, 1, 0)),
    Sequence("play: an end before its start plays nothing", view(10, "v", 9, 200, wall=-4), played(0, 1, 0)),
    Sequence("play: without an end", [e(0, "play_start", view="v", duration_ms=9_000)], played(0, 0, 0)),
    Sequence("play: an end without a start is not a view", [e(9, "play_end", view="v", play_ms=9_000)], {}),
    Sequence(
        "play: an end without play time",
        [e(0, "play_start", view="v"), e(9, "play_end", view="v")],
        played(0, 0, 0),
    ),
    Sequence(
        "play: interleaved views are paired by their ids",
        [
            e(0, "play_start", view="a", duration_ms=60_000), e(1, "play_start", view="b", duration_ms=60_000),
            e(2, "play_end", view="b", play_ms=9_000), e(20, "play_end", view="a", play_ms=19_000),
        ],
        played(3 + 19, 2, 0, views=2),
    ),
    Sequence(
        "play: of several ends the longest and the last count",
        [*view(0, "v", 5, 30), e(20, "play_end", view="v", play_ms=18_000), e(21, "play_end", view="v", play_ms=2_000)],
        played(18, 1, 0),
    ),
    Sequence("valid play: 7 s", view(0, "v", 7, 60), played(7, 1, 0)),
    Sequence("valid play: 6.999 s are not enough", view(0, "v", 6.999, 60), played(6.999, 0, 0)),
    Sequence("valid play: a short item in full", view(0, "v", 4, 4), played(4, 1, 1)),
    Sequence("finish: of an unknown length never", [*view(0, "v", 50, 0)], played(50, 1, 0)),
    Sequence(
        "old events: play and finish are views of their own",
        [e(0, "play", play_ms=8_000, duration_ms=20_000), e(9, "finish", play_ms=5_000), e(20, "play")],
        played(13, 1, 1, views=3),
    ),
    Sequence(
        "old events: play and finish of one view id are one view",
        [e(0, "play", view="v", play_ms=8_000), e(9, "finish", view="v", play_ms=9_000)],
        played(9, 1, 1),
    ),
    Sequence("old events: impressions and clicks count for nothing", [e(0, "impression"), e(1, "click", item="i")], {}),
]  # fmt: skip

_ACTIONS = [
    Sequence(
        "like: the first per item",
        [e(0, "like", item="i"), e(9, "like", item="i"), e(9, "like", item="j")],
        {"like": 2},
    ),
    Sequence("like: undone within 60 s", [e(0, "like", item="i"), e(60, "unlike", item="i")], {}),
    Sequence("like: undone later", [e(0, "like", item="i"), e(60.001, "unlike", item="i")], {"like": 1}),
    Sequence("like: another item is undone", [e(0, "like", item="i"), e(5, "unlike", item="j")], {"like": 1}),
    Sequence("like: undone before", [e(0, "unlike", item="i"), e(5, "like", item="i")], {"like": 1}),
    Sequence(
        "like: only the first action of an item is asked",
        [e(0, "like", item="i"), e(5, "unlike", item="i"), e(500, "like", item="i")],
        {},
    ),
    Sequence("like: at one time the ids decide: undone", [e(0, "like", item="i"), e(0, "unlike", item="i")], {}),
    Sequence(
        "like: at one time the ids decide: liked",
        [e(0, "unlike", item="i"), e(0, "like", item="i")],
        {"like": 1},
    ),
    Sequence("like: without an item", [e(0, "like")], {}),
    Sequence(
        "follow: the first per author, undone within 60 s",
        [
            e(0, "follow", author="a", item="i"), e(9, "follow", author="a", item="j"),
            e(20, "follow", author="b"), e(30, "unfollow", author="b"),
        ],
        {"follow": 1},
    ),
    Sequence("follow: old events name an item", [e(0, "follow", item="i"), e(1, "follow", item="i")], {"follow": 1}),
    Sequence(
        "dislike: each counts",
        [e(0, "dislike", item="i"), e(1, "dislike", item="i"), e(2, "dislike")],
        {"dislike": 3},
    ),
    Sequence(
        "comment: 20 per item",
        [*[e(n, "comment", item="i") for n in range(25)], e(30, "comment", item="j")],
        {"comment": 21},
    ),
    Sequence("share: 20 per item", [*[e(n, "share", item="i") for n in range(21)]], {"share": 20}),
    Sequence(
        "publish: once per item",
        [e(0, "publish", item="i"), e(1, "publish", item="i"), e(2, "publish"), e(3, "publish")],
        {"publish": 3},
    ),
]  # fmt: skip

_ARRIVALS = [
    Sequence(
        "late: until the end of the third day",
        [e(0, "like", item="i", late=MIDNIGHT + 3 * 86_400 - 0.001)],
        {"like": 1},
    ),
    Sequence("late: after the third day", [e(0, "like", item="i", late=MIDNIGHT + 3 * 86_400)], {}),
    Sequence("ahead: 24 hours", [e(86_400, "like", item="i", late=-86_400)], {"like": 1}),
    Sequence("ahead: more than 24 hours", [e(86_400.001, "like", item="i", late=-86_400.001)], {}),
    Sequence(
        "repeats: an id counts once",
        [e(0, "comment", item="i", id="same"), e(0, "comment", item="i", id="same", late=9)],
        {"comment": 1},
    ),
    Sequence(
        "repeats: the earliest time of an id counts",
        [e(3_700, "foreground", id="same2"), e(100, "foreground", id="same2"), e(110, "background")],
        stay(10),
    ),
    Sequence(
        "repeats: the earliest time of an id counts, also outside of both periods",
        [e(100, "comment", item="i", id="same3"), e(-9 * 86_400, "comment", item="i", id="same3")],
        {},
    ),
    Sequence("bad: a negative play time", [e(0, "play", play_ms=-1)], {}),
    Sequence("bad: a negative length", [e(0, "play", play_ms=5, duration_ms=-1)], {}),
    Sequence("bad: a play of more than a day", [e(0, "play", play_ms=86_400_001)], {}),
    Sequence("bad: an unknown type", [e(0, "foreground"), e(10, "sneeze"), e(10, "background")], stay(10)),
    Sequence("bad: a play without a view id", [e(0, "play_start"), e(10, "play_end", play_ms=10_000)], {}),
    Sequence(
        "one time: background comes before foreground, so the span goes on",
        [e(0, "foreground"), e(10, "foreground"), e(10, "background"), e(20, "heartbeat")],
        stay(50),
    ),
    Sequence("no events", [], {}),
]

SEQUENCES: Final = [*_SPANS, *_DAYS, *_WINDOWS, *_VIEWS, *_ACTIONS, *_ARRIVALS]
