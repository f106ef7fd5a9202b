"""KuaiRand-Pure (Gao et al., CIKM 2022, CC BY-SA 4.0): two weeks of a short-video feed, and the videos watched before.

| File | Read |
| --- | --- |
| log_standard_0425_0508.csv.gz | user_id, video_id, time_ms, is_click, long_view, play_time_ms |
| history_0409_0424.csv.gz | user_id, last_time_ms, long_view_seq |
| video_features_basic_pure.csv.gz | author_id, video_type, upload_type, video_duration, music_type, tag |

- A row of the log that repeats an earlier (user, video, time_ms) is dropped. The others are the impressions, labelled
  by long_view, in the order of time_ms; date and hourmin are not used: they lag by up to an hour.
- The first click of a user on a video is an interaction. Rows of duration 0 stay.
- The long views before the log are context, action `play`. Their times are not known: they get times a millisecond
apart that
  end at the user's last_time_ms, or at the millisecond before the user's first row of the log if that is earlier.
- Users are those of the log, even without a click or a history; items are the videos of the log and of those histories.
- The daily statistics of videos cover the days of the log, so they reveal the future: they are not read.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.grammar import MIN_TIME_MS, shown
from contract.behaviours.records import MAX_PLAY_MS, MAX_TIME_MS
from training.data.datasets.interactions import Impressions, Interactions, ItemFacts
from training.data.datasets.table import Table, read_table
from training.data.datasets.text import digest_of, read_bytes

NAME: Final = "kuairand-pure"
LOG: Final = "log_standard_0425_0508.csv.gz"
HISTORY: Final = "history_0409_0424.csv.gz"
VIDEOS: Final = "video_features_basic_pure.csv.gz"
FILES: Final = (LOG, HISTORY, VIDEOS)

_LOG_COLUMNS: Final = (
    "user_id",
    "video_id",
    "time_ms",
    "is_click",
    "is_like",
    "long_view",
    "play_time_ms",
    "duration_ms",
)
_HISTORY_COLUMNS: Final = ("user_id", "last_time_ms", "long_view_seq")
_VIDEO_FIELDS: Final = {
    "author_id": "author",
    "music_type": "music_type",
    "upload_type": "upload_type",
    "video_type": "video_type",
}
_VIDEO_COLUMNS: Final = ("video_id", *_VIDEO_FIELDS, "video_duration", "tag")
_DURATION_BINS: Final = 32


def load(folder: Path) -> Interactions:
    """Read the data set from its folder.

    Raises:
        DataError: a file is missing or malformed.
    """
    contents = {name: read_bytes(folder / name) for name in FILES}
    catalogue = _videos(read_table(folder / VIDEOS, contents[VIDEOS], _VIDEO_COLUMNS))
    log = read_table(folder / LOG, contents[LOG], _LOG_COLUMNS)
    history = read_table(folder / HISTORY, contents[HISTORY], _HISTORY_COLUMNS)
    log_users, log_items = log.ids("user_id"), log.known("video_id", catalogue, VIDEOS)
    times = log.whole("time_ms", MIN_TIME_MS, MAX_TIME_MS - 1)
    clicked, plays = log.whole("is_click", 0, 1), log.whole("play_time_ms", 0, MAX_PLAY_MS)
    labels = log.whole("long_view", 0, 1)

    shown_at = _first(zip(log_users, log_items, times.tolist(), strict=True))
    shown_at = shown_at[np.argsort(times[shown_at], kind="stable")]
    users, items = _taken(log_users, shown_at), _taken(log_items, shown_at)
    clicks = np.flatnonzero(clicked[shown_at])
    clicks = clicks[_first(zip(_taken(users, clicks), _taken(items, clicks), strict=True))]
    past_users, past_items, past_times = _context(history, catalogue, users, times[shown_at])
    past, new = len(past_users), len(clicks)
    return Interactions(
        name="KuaiRand-Pure",
        source=f"KuaiRand files {LOG}, {HISTORY}, {VIDEOS} in {folder.name}",
        digest=digest_of(contents),
        users=past_users + _taken(users, clicks),
        items=past_items + _taken(items, clicks),
        times_ms=np.concatenate((past_times, times[shown_at][clicks])),
        actions=np.repeat([ACTION_CODES["play"], ACTION_CODES["click"]], [past, new]).astype(np.int64),
        values=np.zeros(past + new, dtype=np.int64),
        plays_ms=np.concatenate((np.zeros(past, dtype=np.int64), plays[shown_at][clicks])),
        catalogue=catalogue,
        context=np.arange(past + new) < past,
        impressions=Impressions(users, items, times[shown_at], labels[shown_at], _outcomes(log, shown_at)),
        read={
            "log_rows": len(log),
            "log_rows_without_repeats": len(shown_at),
            "clicks": int(clicked[shown_at].sum()),
            "distinct_clicks": new,
            "history_users": len(history),
        },
    )


def _outcomes(log: Table, shown_at: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Return what came of each impression: click, long view, like, and the share of the video that was played."""
    named = {"click": "is_click", "finish": "long_view", "like": "is_like"}
    found = {name: 1000 * log.whole(column, 0, 1)[shown_at] for name, column in named.items()}
    plays, durations = (log.whole(name, 0, MAX_PLAY_MS)[shown_at] for name in ("play_time_ms", "duration_ms"))
    return found | {"play": np.minimum(1000 * plays // np.maximum(durations, 1), 1000)}


def _context(
    history: Table, catalogue: dict[str, ItemFacts], users: list[str], times: NDArray[np.int64]
) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """Return user, item and time of every long view before the log, of the users that are in the log."""
    begins: dict[str, int] = {}
    for user, time in zip(users, times.tolist(), strict=True):  # in the order of time
        begins.setdefault(user, time)
    lasts = history.whole("last_time_ms", MIN_TIME_MS, MAX_TIME_MS - 1).tolist()
    whose: list[str] = []
    items: list[str] = []
    when: list[int] = []
    for row, (user, last, sequence) in enumerate(
        zip(history.ids("user_id"), lasts, history.text("long_view_seq"), strict=True)
    ):
        watched = sequence.split()
        for video in watched:
            if video not in catalogue:
                history.fail(row, "long_view_seq", f"{shown(video)} is not in {VIDEOS}")
        if user in begins:
            whose += [user] * len(watched)
            items += watched
            # A millisecond apart, so that the store keeps their order and a video that was watched twice.
            end = min(last, begins[user] - 1)
            when += range(end - len(watched) + 1, end + 1)
    return whose, items, np.array(when, dtype=np.int64)


def _videos(table: Table) -> dict[str, ItemFacts]:
    fields = {name: table.text(column) for column, name in _VIDEO_FIELDS.items()}
    durations = _bins(_milliseconds(table))
    catalogue = {}
    for row, (video, tags) in enumerate(zip(table.ids("video_id"), table.text("tag"), strict=True)):
        features: dict[str, tuple[str, ...]] = {"tag": tuple(filter(None, tags.split(",")))}
        features |= {name: (cells[row],) for name, cells in fields.items() if cells[row] not in {"", "UNKNOWN"}}
        features["duration"] = (durations[row],) if durations[row] else ()
        catalogue[video] = ItemFacts(features=features)
    return catalogue


def _milliseconds(table: Table) -> NDArray[np.float64]:
    """Return the duration of every video, 0 if it is not known."""
    milliseconds = np.zeros(len(table))
    for row, cell in enumerate(table.text("video_duration")):
        try:
            milliseconds[row] = float(cell or 0)
        except ValueError:
            milliseconds[row] = -1.0
        if not 0 <= milliseconds[row] <= MAX_PLAY_MS:  # nan is in no range
            table.fail(row, "video_duration", f"{shown(cell)} is not a number of milliseconds")
    return milliseconds


def _bins(numbers: NDArray[np.float64]) -> list[str]:
    """Return the name of each number's bin, of bins of equal size; "" for 0, which means unknown."""
    known = numbers[numbers > 0]
    if not len(known):
        return [""] * len(numbers)
    edges = np.unique(np.quantile(known, np.arange(1, _DURATION_BINS) / _DURATION_BINS))
    places = np.searchsorted(edges, numbers, side="right")
    return [f"{place:02d}" if number > 0 else "" for place, number in zip(places.tolist(), numbers, strict=True)]


def _first(keys: Iterable[Hashable]) -> NDArray[np.int64]:
    """Return the places where a key appears for the first time."""
    seen: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        seen.setdefault(key, place)
    return np.fromiter(seen.values(), dtype=np.int64, count=len(seen))


def _taken(values: list[str], places: NDArray[np.int64]) -> list[str]:
    return [values[place] for place in places.tolist()]
