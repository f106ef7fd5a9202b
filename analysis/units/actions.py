"""Views and actions: what a unit played, liked and so on, per period and day since exposure.

An event belongs to the period in which it happened, and a view is made of the events of one period.
"""

from __future__ import annotations

from typing import Final

from analysis.rules import DAY, PER_ITEM, SPEED, UNDO, VALID_PLAY, Study
from analysis.tables.database import Database, column, quoted
from analysis.units.events import Kind

ADDITIVE: Final = (
    "stay_duration", "playtime", "play", "valid_play", "finish",
    "publish", "like", "dislike", "comment", "share", "follow",
)  # fmt: skip
"""Columns that add up over days; times in ms."""

_DAY_OF: Final = f"(CASE p WHEN 1 THEN ({{}} - t0) // {DAY} ELSE 0 END)::SMALLINT AS d"


def count_actions(database: Database, study: Study) -> None:
    """Create the tables `view_day` and `action_day` (u, p, d and the columns of their metrics)."""
    database.run("views", _views(study))
    database.run("actions", _actions())


def _views(study: Study) -> str:
    """A view is what shares a view id; an old `play` or `finish` without one is a view of its own.

    `play_start` and `play_end` give a view at most three times the time between them. Ends without a start are not
    views: their time cannot be checked.
    """
    whole = f"kind IN ({Kind.PLAY:d}, {Kind.FINISH:d})"
    wall = f"""
        CASE WHEN started IS NULL OR ended IS NULL THEN 0
             ELSE {SPEED} * (greatest(ended - started, 0) + {study.tick - 1}) END
    """
    return f"""
        CREATE TEMP TABLE view_day AS
        WITH view AS (
            SELECT u, p, min(ts) FILTER (kind = {Kind.PLAY_START:d}) AS started, min(ts) FILTER ({whole}) AS reported,
                   max(ts) FILTER (kind = {Kind.PLAY_END:d}) AS ended,
                   coalesce(max(play_ms) FILTER (kind = {Kind.PLAY_END:d}), 0) AS played,
                   coalesce(max(play_ms) FILTER ({whole}), 0) AS reported_ms,
                   max(duration_ms) AS duration_ms, bool_or(kind = {Kind.FINISH:d}) AS finished
            FROM event
            WHERE fault = 0 AND p >= 0 AND kind BETWEEN {Kind.PLAY_START:d} AND {Kind.FINISH:d}
            GROUP BY u, p, key
            HAVING started IS NOT NULL OR reported IS NOT NULL
        ),
        judged AS (
            SELECT u, p, least(started, reported) AS ts, greatest(played, reported_ms) AS play_ms, duration_ms,
                   finished,
                   greatest(least(played, {wall}), reported_ms) AS counted
            FROM view
        )
        SELECT u, p, {_DAY_OF.format("ts")}, sum(counted)::BIGINT AS playtime, count(*) AS play,
               count(*) FILTER (play_ms >= least({VALID_PLAY}, coalesce(duration_ms, {VALID_PLAY}))) AS valid_play,
               count(*) FILTER (finished OR play_ms >= duration_ms) AS finish
        FROM judged JOIN exposed USING (u) GROUP BY u, p, d
    """


def _actions() -> str:
    kept = " UNION ALL ".join(
        (
            _first("like", Kind.LIKE, _not_undone(Kind.UNLIKE)),
            _first("follow", Kind.FOLLOW, _not_undone(Kind.UNFOLLOW)),
            _first("publish", Kind.PUBLISH),
            _capped("comment", Kind.COMMENT),
            _capped("share", Kind.SHARE),
            f"SELECT u, p, ts, 'dislike' AS name FROM event WHERE fault = 0 AND p >= 0 AND kind = {Kind.DISLIKE:d}",
        )
    )
    names = ("publish", "like", "dislike", "comment", "share", "follow")
    columns = ", ".join(f"count(*) FILTER (name = {quoted(name)}) AS {column(name)}" for name in names)
    return f"""
        CREATE TEMP TABLE action_day AS
        SELECT u, p, {_DAY_OF.format("ts")}, {columns}
        FROM ({kept}) JOIN exposed USING (u) GROUP BY u, p, d
    """


def _first(name: str, kind: Kind, condition: str = "") -> str:
    """Return a query for the first action per thing, if a condition on it is true."""
    return f"""
        SELECT u, p, ts, '{name}' AS name FROM (
            SELECT u, p, key, ts, id FROM event WHERE fault = 0 AND p >= 0 AND kind = {kind:d}
            QUALIFY row_number() OVER (PARTITION BY u, p, key ORDER BY ts, id) = 1
        ) AS first
        {condition}
    """


def _not_undone(by: Kind) -> str:
    return f"""
        WHERE NOT EXISTS (
            FROM event AS undo
            WHERE undo.fault = 0 AND undo.kind = {by:d} AND undo.u = first.u AND undo.p = first.p
              AND undo.key = first.key AND undo.ts <= first.ts + {UNDO}
              AND (undo.ts > first.ts OR (undo.ts = first.ts AND undo.id > first.id))
        )
    """


def _capped(name: str, kind: Kind) -> str:
    """Return a query for the first 20 actions per thing."""
    return f"""
        SELECT u, p, ts, '{name}' AS name FROM (
            SELECT u, p, ts FROM event WHERE fault = 0 AND p >= 0 AND kind = {kind:d}
            QUALIFY row_number() OVER (PARTITION BY u, p, key ORDER BY ts, id) <= {PER_ITEM}
        )
    """
