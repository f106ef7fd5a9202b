"""KuaiRand-Pure's users (Gao et al., CIKM 2022): a week of real views, and the week before it.

The log has views and reactions, no foreground and background: stay duration and publish are 0, and an active day is a
day with a view. As delivered it has repeats and impossible play times; both are treated as the report treats them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import duckdb

from analysis.metrics import MEANS
from analysis.proof.population import Population, from_table
from analysis.statistics.winsorise import winsorise
from contract.command_line import CommandError, one_line

FILE: Final = "log_standard_0425_0508.csv.gz"
_SPLIT: Final = 20_220_502  # the first day of the second week, by the log's own date
_NAIVE_LIKE: Final = 0.20  # measured before the gates were fixed: 20.9% (simulated users differ less in liking)
_VALUES: Final = {
    "active_days": "count(DISTINCT date)",
    "active_hours": "count(DISTINCT (date, hourmin // 100))",
    "playtime": "sum(least(play_time_ms, 3 * duration_ms)) / 1000",
    "play": "count(*)",
    "valid_play": "count(*) FILTER (play_time_ms >= least(7000, duration_ms))",
    "finish": "count(*) FILTER (play_time_ms >= duration_ms)",
    "like": "sum(is_like)",
    "dislike": "sum(is_hate)",
    "comment": "sum(is_comment)",
    "share": "sum(is_forward)",
    "follow": "sum(is_follow)",
}


def read_kuairand(folder: Path) -> Population:
    """Return the users of the log.

    Args:
        folder: with `log_standard_0425_0508.csv.gz`.

    Raises:
        CommandError: the file is missing or is another one.
    """
    path = folder / FILE
    if not path.is_file():
        raise CommandError(f"{path}: no such file; --kuairand names the folder of KuaiRand-Pure's logs")
    with duckdb.connect() as connection:
        try:
            table = connection.sql(_query(), params=[str(path)]).to_arrow_table()
        except duckdb.Error as error:
            raise CommandError(f"{path}: not KuaiRand-Pure's log: {one_line(str(error))[:200]}") from None
    return from_table("KuaiRand-Pure", winsorise(table)[0], naive_like=_NAIVE_LIKE)


def _query() -> str:
    values = ", ".join(f'{text} AS "{name}"' for name, text in _VALUES.items())
    columns = ", ".join(
        f'coalesce({week}."{name}", 0)::DOUBLE AS "{name}{suffix}"'
        if name in _VALUES
        else f'0::DOUBLE AS "{name}{suffix}"'
        for name in MEANS
        for week, suffix in (("this", ""), ("last", "_pre"))
    )
    return f"""
        WITH view AS (
            SELECT * FROM read_csv(?) QUALIFY row_number() OVER (
                PARTITION BY user_id, video_id, time_ms ORDER BY play_time_ms DESC, is_like DESC, is_click DESC) = 1
        ), week AS (SELECT user_id, date >= {_SPLIT} AS is_this, {values} FROM view GROUP BY ALL)
        SELECT one.user_id::VARCHAR AS unit, last.user_id IS NOT NULL AS history, {columns}
        FROM (SELECT DISTINCT user_id FROM view) AS one
        LEFT JOIN week AS this ON this.user_id = one.user_id AND this.is_this
        LEFT JOIN week AS last ON last.user_id = one.user_id AND NOT last.is_this
        ORDER BY one.user_id
    """
