"""The unit table again, in plain Python: one user after the other, with loops and lists, and no code of the analysis.

docs/online-metrics.md is what both follow. Times are milliseconds of the events' own clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
Interval = tuple[int, int]

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
KNOWN = {
    "foreground", "background", "heartbeat", "play_start", "play_end", "like", "unlike", "dislike", "comment", "share",
    "follow", "unfollow", "publish", "impression", "click", "play", "finish", "purchase", "rate",
}  # fmt: skip


def plain_units(exposures: Iterable[Row], activity: Iterable[Row], days: int, end: int) -> dict[str, dict[str, float]]:
    """Compute all metrics of every exposed unit, for one experiment whose exposures are all unforced."""
    first: dict[str, int] = {}
    arms: dict[str, set[str]] = defaultdict(set)
    for row in exposures:
        if row["ts"] < end:
            arms[row["unit"]].add(row["arm"])
            first[row["unit"]] = min(first.get(row["unit"], row["ts"]), row["ts"])
    by_unit: dict[str, list[Row]] = defaultdict(list)
    for row in _once(activity, end):
        by_unit[row["unit"]].append(row)
    return {unit: _unit(by_unit[unit], first[unit], days, end) for unit in first if len(arms[unit]) == 1}


def _once(activity: Iterable[Row], end: int) -> list[Row]:
    """The row of each id that happened first, without rows that arrived after the end."""
    kept: dict[str, Row] = {}
    for row in activity:
        if row["received"] < end and (row["id"] not in kept or row["ts"] < kept[row["id"]]["ts"]):
            kept[row["id"]] = row
    return list(kept.values())


def _unit(events: list[Row], exposed: int, days: int, end: int) -> dict[str, float]:
    zone = _zone(events, exposed, days)
    good = [row for row in events if _counts(row)]
    result: dict[str, float] = {}
    periods = (("", exposed, min(exposed + days * DAY, end)), ("_pre", exposed - days * DAY, exposed))
    for suffix, start, stop in periods:
        inside = [row for row in good if start <= row["ts"] < stop]
        before = [row for row in good if start - DAY <= row["ts"] < start]
        values = _foreground(before + inside, start, stop, zone) | _views(inside) | _actions(inside)
        result |= {name + suffix: value for name, value in values.items()}
    return result


def _zone(events: list[Row], exposed: int, days: int) -> int:
    known = [
        row for row in events
        if row["tz_offset"] is not None and abs(row["tz_offset"]) <= 840
        and exposed - (days + 1) * DAY <= row["ts"] < exposed + days * DAY
    ]  # fmt: skip
    before = [row for row in known if row["ts"] < exposed]
    if before:
        last = max(row["ts"] for row in before)
        return max(row["tz_offset"] for row in before if row["ts"] == last) * MINUTE
    if known:
        earliest = min(row["ts"] for row in known)
        return min(row["tz_offset"] for row in known if row["ts"] == earliest) * MINUTE
    return 0


def _counts(row: Row) -> bool:
    on_time = row["received"] < (row["ts"] // DAY + 4) * DAY and row["ts"] <= row["received"] + DAY
    play, length = row["play_ms"] or 0, row["duration_ms"] or 0
    if not on_time or row["type"] not in KNOWN or not 0 <= play <= DAY or length < 0:
        return False
    if row["type"] in ("play_start", "play_end"):
        return row["view"] is not None
    if row["type"] in ("follow", "unfollow"):
        return row["author"] is not None or row["item"] is not None
    return row["type"] not in ("like", "unlike", "comment", "share") or row["item"] is not None


def _foreground(events: list[Row], start: int, stop: int, zone: int) -> dict[str, float]:
    by_device: dict[str | None, list[Row]] = defaultdict(list)
    for row in events:
        by_device[row["device"]].append(row)
    everything: list[Interval] = []
    for rows in by_device.values():
        everything += _merged(_stretches(rows), 30 * SECOND - 1)
    spans = [(max(a, start), min(b, stop)) for a, b in _merged(sorted(everything), 0)]
    spans = [(a, b) for a, b in spans if a < b]
    return {"active_days": _days(spans, zone), "active_hours": _hours(spans, zone), "stay_duration": _stay(spans, zone)}


def _stretches(rows: list[Row]) -> list[Interval]:
    """Each event shows that the device was in front until its next event, or for 30 s."""
    order = {"background": 1, "foreground": 2}
    rows = sorted(rows, key=lambda row: (row["ts"], order.get(row["type"], 0)))
    found: list[Interval] = []
    in_front = False
    for place, row in enumerate(rows):
        if row["type"] in order:
            in_front = row["type"] == "foreground"
        if not in_front:
            continue
        until = row["ts"] + 30 * SECOND
        if place + 1 < len(rows):
            following = rows[place + 1]
            gap = following["ts"] - row["ts"]
            if gap <= (30 if following["type"] == "foreground" else 120) * SECOND:
                until = following["ts"]
        found.append((row["ts"], until))
    return found


def _merged(intervals: list[Interval], gap: int) -> list[Interval]:
    result: list[Interval] = []
    for begin, finish in intervals:
        if result and begin - result[-1][1] <= gap:
            result[-1] = (result[-1][0], max(result[-1][1], finish))
        else:
            result.append((begin, finish))
    return result


def _cut(interval: Interval, zone: int, length: int) -> list[tuple[int, int]]:
    """The number of each day or hour that an interval touches, and the time in it."""
    begin, finish = interval[0] + zone, interval[1] + zone
    result = []
    while begin < finish:
        border = (begin // length + 1) * length
        result.append((begin // length, min(border, finish) - begin))
        begin = border
    return result


def _days(spans: list[Interval], zone: int) -> float:
    return float(len({day for span in spans for day, ms in _cut(span, zone, DAY) if ms >= SECOND}))


def _hours(spans: list[Interval], zone: int) -> float:
    hours: dict[int, int] = defaultdict(int)
    for span in spans:
        for hour, ms in _cut(span, zone, HOUR):
            hours[hour] += ms
    return float(sum(ms >= SECOND for ms in hours.values()))


def _stay(spans: list[Interval], zone: int) -> float:
    by_day: dict[int, int] = defaultdict(int)
    for span in spans:
        for day, ms in _cut(span, zone, DAY):
            by_day[day] += ms
    return sum(min(ms, 16 * HOUR) for ms in by_day.values()) / SECOND


def _views(events: list[Row]) -> dict[str, float]:
    views: dict[str, list[Row]] = defaultdict(list)
    for row in events:
        if row["type"] in ("play_start", "play_end"):
            views["view " + row["view"]].append(row)
        elif row["type"] in ("play", "finish"):
            views["view " + (row["view"] or row["id"])].append(row)
    result = {"playtime": 0.0, "play": 0.0, "valid_play": 0.0, "finish": 0.0}
    milliseconds = 0
    for rows in views.values():
        starts = [row["ts"] for row in rows if row["type"] == "play_start"]
        ends = [row for row in rows if row["type"] == "play_end"]
        whole = [row for row in rows if row["type"] in ("play", "finish")]
        if not starts and not whole:
            continue
        played = max([row["play_ms"] or 0 for row in ends], default=0)
        reported = max([row["play_ms"] or 0 for row in whole], default=0)
        wall = max(0, max(row["ts"] for row in ends) - min(starts)) if starts and ends else 0
        milliseconds += max(min(played, 3 * wall), reported)
        length = max([row["duration_ms"] or 0 for row in rows]) or None
        result["play"] += 1
        result["valid_play"] += max(played, reported) >= min(7 * SECOND, length or 7 * SECOND)
        complete = length is not None and max(played, reported) >= length
        result["finish"] += complete or any(row["type"] == "finish" for row in whole)
    return result | {"playtime": milliseconds / SECOND}


def _actions(events: list[Row]) -> dict[str, float]:
    events = sorted(events, key=lambda row: (row["ts"], row["id"]))
    published = {row["item"] or row["id"] for row in events if row["type"] == "publish"}
    return {
        "like": _firsts(events, "like", "unlike", lambda row: str(row["item"])),
        "follow": _firsts(
            events, "follow", "unfollow", lambda row: f"a {row['author']}" if row["author"] else f"i {row['item']}"
        ),
        "publish": float(len(published)),
        "dislike": float(sum(row["type"] == "dislike" for row in events)),
        "comment": _at_most_20(events, "comment"),
        "share": _at_most_20(events, "share"),
    }


def _firsts(events: list[Row], name: str, undo: str, key: Any) -> float:
    seen: set[str] = set()
    count = 0
    for place, row in enumerate(events):
        if row["type"] != name or key(row) in seen:
            continue
        seen.add(key(row))
        later = [other for other in events[place + 1 :] if other["type"] == undo and key(other) == key(row)]
        count += not any(other["ts"] <= row["ts"] + MINUTE for other in later)
    return float(count)


def _at_most_20(events: list[Row], name: str) -> float:
    items: dict[str, int] = defaultdict(int)
    for row in events:
        if row["type"] == name:
            items[row["item"]] += 1
    return float(sum(min(20, count) for count in items.values()))
