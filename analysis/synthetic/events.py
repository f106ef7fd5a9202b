"""The events of a chunk's users, drawn: sessions of views, a history before the exposure, and lost events."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.rules import DAY, HOUR, MINUTE, SECOND
from analysis.synthetic.population import Effect, Population
from analysis.synthetic.users import Floats, Ints, Users

_HEARTBEAT: Final = 15 * SECOND
_EXPOSED_FOR: Final = 12 * SECOND
_ITEMS: Final = 20_000


class Columns(NamedTuple):
    """Events of a chunk as columns; -1 is null."""

    user: Ints
    type: Ints  # places in TYPES
    ts: Ints
    device: Ints
    view: Ints
    item: Ints
    play_ms: Ints
    duration_ms: Ints


TYPES: Final = (
    "foreground", "background", "heartbeat", "play_start", "play_end", "like", "unlike", "dislike", "comment", "share",
    "follow", "unfollow", "publish",
)  # fmt: skip
_TYPE: Final = {name: place for place, name in enumerate(TYPES)}


def draw_events(population: Population, users: Users, rng: np.random.Generator) -> Columns:
    """Draw what the users of a chunk do: sessions of views, and one short session in which each is exposed."""
    effects = [population.effects[arm] for arm in population.arms]
    sessions = _sessions(population, users, rng, np.array([effect.sessions for effect in effects]))
    views = _views(population, users, rng, sessions, effects)
    return _joined([*_presence(population, users, rng, sessions, views), *_actions(users, rng, views, effects)])


class _Sessions(NamedTuple):
    user: Ints
    start: Ints
    device: Ints
    treated: NDArray[np.bool_]  # it begins after the exposure


class _Views(NamedTuple):
    session: Ints
    user: Ints
    start: Ints
    end: Ints
    play_ms: Ints
    duration_ms: Ints
    item: Ints
    device: Ints
    treated: NDArray[np.bool_]


def _sessions(population: Population, users: Users, rng: np.random.Generator, lifts: Floats) -> _Sessions:
    before = rng.poisson(users.rate * population.before_days * ~users.is_new)
    after = rng.poisson(users.rate * population.after_days * (1 + lifts[users.arms]))
    user = np.repeat(np.concatenate([np.arange(len(before)), np.arange(len(after))]), np.concatenate([before, after]))
    treated = np.arange(len(user)) >= before.sum()
    length = np.where(treated, population.after_days, -population.before_days) * DAY
    start = users.exposed[user] + (rng.random(len(user)) * length).astype(np.int64)
    device = (rng.random(len(user)) < 0.3) & users.has_second[user]
    return _Sessions(user, _in_the_evening(users, rng, user, start, treated), device.astype(np.int64), treated)


def _in_the_evening(
    users: Users, rng: np.random.Generator, user: Ints, start: Ints, treated: NDArray[np.bool_]
) -> Ints:
    """Move half of the sessions to the evening of their local day, if they stay on their side of the exposure."""
    offset = users.offset[user] * MINUTE
    evening = (start + offset) // DAY * DAY - offset + 18 * HOUR + rng.integers(0, 5 * HOUR, len(start))
    moved = (rng.random(len(start)) < 0.5) & ((evening >= users.exposed[user] + MINUTE) == treated)
    return np.where(moved, evening, start)


def _views(
    population: Population, users: Users, rng: np.random.Generator, sessions: _Sessions, effects: list[Effect]
) -> _Views:
    count = rng.geometric(1 / population.views_per_session, len(sessions.user))
    session = np.repeat(np.arange(len(count)), count)
    user, treated = sessions.user[session], sessions.treated[session]
    n = len(session)
    duration = (rng.lognormal(2.7, 0.6, n) * SECOND).astype(np.int64) + 3 * SECOND
    lift = np.array([effect.watching for effect in effects])[users.arms[user]] * treated
    share = users.watching[user] * rng.gamma(1.5, 1 / 1.5, n)
    play = (duration * share * (1 + lift)).astype(np.int64)
    pause = rng.integers(200, 3_000, n)
    passed = np.cumsum(play + pause)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])[session]
    before_session = (passed - play - pause)[first] if n else passed
    start = sessions.start[session] + passed - play - before_session
    return _Views(
        session, user, start, start + play, play, duration, rng.zipf(1.3, n) % _ITEMS, sessions.device[session], treated
    )


def _presence(
    population: Population, users: Users, rng: np.random.Generator, sessions: _Sessions, views: _Views
) -> list[Columns]:
    ends = np.zeros(len(sessions.user), dtype=np.int64)
    np.maximum.at(ends, views.session, views.end)
    start = np.concatenate([sessions.start, users.exposed - 2 * SECOND])
    end = np.concatenate([ends + rng.integers(100, 5_000, len(ends)), users.exposed + _EXPOSED_FOR])
    user = np.concatenate([sessions.user, np.arange(len(users.numbers))])
    device = np.concatenate([sessions.device, np.zeros(len(users.numbers), dtype=np.int64)])
    kept = rng.random(len(user)) >= population.lost_backgrounds
    beats = (end - start) // _HEARTBEAT
    beating = np.repeat(np.arange(len(user)), beats)
    number = np.arange(len(beating)) - np.repeat(np.cumsum(beats) - beats, beats) + 1
    return [
        _events("foreground", user, start, device),
        _events("background", user[kept], end[kept], device[kept]),
        _events("heartbeat", user[beating], start[beating] + number * _HEARTBEAT, device[beating]),
        *_plays(population, rng, views),
    ]


def _plays(population: Population, rng: np.random.Generator, views: _Views) -> list[Columns]:
    number = np.arange(len(views.user), dtype=np.int64)
    ended = rng.random(len(number)) >= population.lost_ends
    starts = _events(
        "play_start", views.user, views.start, views.device, view=number, item=views.item, duration_ms=views.duration_ms
    )
    ends = _events(
        "play_end", views.user[ended], views.end[ended], views.device[ended], view=number[ended],
        item=views.item[ended], play_ms=views.play_ms[ended], duration_ms=views.duration_ms[ended],
    )  # fmt: skip
    return [starts, ends]


def _actions(users: Users, rng: np.random.Generator, views: _Views, effects: list[Effect]) -> list[Columns]:
    lift = np.array([effect.liking for effect in effects])[users.arms[views.user]] * views.treated
    likes = rng.random(len(views.user)) < np.minimum(1.0, users.liking[views.user] * (1 + lift))
    events = [
        _after(views, likes, "like", rng, 0),
        _after(views, likes & (rng.random(len(likes)) < 0.03), "unlike", rng, 20),
    ]
    for name, probability in (
        ("comment", 0.004),
        ("share", 0.003),
        ("follow", 0.003),
        ("dislike", 0.002),
        ("publish", 0.0005),
    ):
        chosen = rng.random(len(likes)) < probability * users.liking[views.user] / 0.02
        events.append(_after(views, chosen, name, rng, 0))
    return events


def _after(views: _Views, chosen: NDArray[np.bool_], name: str, rng: np.random.Generator, seconds: int) -> Columns:
    """Return an action during some views; `seconds` later than their start."""
    ts = views.start[chosen] + seconds * SECOND + rng.integers(0, 500, int(chosen.sum()))
    return _events(name, views.user[chosen], ts, views.device[chosen], item=views.item[chosen])


def _events(name: str, user: Ints, ts: Ints, device: Ints, **others: Ints) -> Columns:
    null = np.full(len(user), -1, dtype=np.int64)
    columns: dict[str, Any] = {"view": null, "item": null, "play_ms": null, "duration_ms": null} | others
    return Columns(user, np.full(len(user), _TYPE[name], dtype=np.int64), ts, device, **columns)


def _joined(parts: list[Columns]) -> Columns:
    return Columns(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
