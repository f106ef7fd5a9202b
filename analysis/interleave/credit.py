"""The credit of each user: joins activity to the ranking log by user, request id and item.

An item gives credit to the team that placed it; items without a team give none. A ranking's credit is bounded: 1 if the
treatment has more items with credit, -1 if the control has, and 0 otherwise. A user's credit is the mean over the
rankings in which teams placed items, so that no user counts more than another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.rules import DAY, UNDO, VALID_PLAY, Study
from analysis.tables.database import Database, quoted
from analysis.tables.reading import damage_named, rows
from contract.command_line import CommandError
from contract.experiments.fields import CONTROL
from contract.experiments.interleaving import INTERLEAVED

STAGES: Final = ("rankings", "teams", "events", "credit")
CREDITS: Final = {
    "valid_play": "items played for 7 s, or for the item's length if that is shorter",
    "finish": "items played for their whole length",
    "like": "items liked, not undone within 60 s",
}
"""Each kind of credit and its definition, for people."""

_TREATMENT, _CONTROL = "(team <> " + quoted(CONTROL) + ")", "(team = " + quoted(CONTROL) + ")"


@dataclass(frozen=True)
class Counted:
    """The users of an experiment and what they did.

    Args:
        treatment: key of the arm that is compared with the control.
        credit: per user with teams in at least one ranking, in the order of users, by kind of credit.
        shares: of the items that teams placed and users played, those that gave credit, by kind; empty without plays.
        rankings: interleaved rankings that were answered.
        drafted: of these, those in which teams placed items.
        one_model: those that one model answered, or popularity, because the other model had no scores.
        first: of those that were drafted, those in which the treatment placed first.
        unanswered: interleaved rankings without an answer.
        users: with any of these.
    """

    treatment: str
    credit: dict[str, NDArray[np.float64]]
    shares: dict[str, float]
    rankings: int
    drafted: int
    one_model: int
    first: int
    unanswered: int
    users: int


def count(opened: Database, folder: Path, study: Study) -> Counted:
    """Read the tables of a folder.

    Raises:
        CommandError: no ranking of the experiment is interleaved, a file is damaged, or there are more than two arms.
    """
    with damage_named(folder):
        rows(opened.connection, folder, "rankings").create_view("all_rankings")
        rows(opened.connection, folder, "activity").create_view("all_activity")
        opened.run("rankings", _rankings(study))
        if not opened.value("SELECT count(*) FROM ranking"):
            raise CommandError(f"no ranking of experiment {study.experiment!r} is interleaved")
        opened.run("teams", _TEAMS)
        treatment = _treatment(opened, study)
        opened.run("events", _events(study))
    opened.run("credit", _RANKING_CREDIT)
    names = ", ".join(f'avg("{name}") AS "{name}"' for name in CREDITS)
    table = opened.table("credit", f"SELECT unit, {names} FROM ranking_credit GROUP BY unit ORDER BY unit")
    facts = opened.rows(_FACTS)[0]
    return Counted(treatment, {name: table[name].to_numpy() for name in CREDITS}, _shares(opened), *facts)


def _shares(opened: Database) -> dict[str, float]:
    names = ", ".join(f'avg("{name}"::DOUBLE)' for name in CREDITS)
    [found] = opened.rows(f"SELECT {names} FROM seen WHERE viewed")
    return {name: share for name, share in zip(CREDITS, found, strict=True) if share is not None}


def _rankings(study: Study) -> str:
    """A request id that a user sent again is one ranking: the first."""
    end = "" if study.end_ms is None else f"AND ts < {study.end_ms}"
    return f"""
        CREATE TEMP TABLE ranking AS
        SELECT unit, req, items, outcome FROM all_rankings
        WHERE len(list_filter(arms, lambda arm: arm.exp = {quoted(study.experiment)} AND arm.arm = '{INTERLEAVED}'
                                                AND coalesce(arm.forced, 0) = 0)) > 0 {end}
        QUALIFY row_number() OVER (PARTITION BY unit, req ORDER BY ts, id) = 1
    """


_TEAMS: Final = """
    CREATE TEMP TABLE placed AS
    SELECT unit, req, item.item AS item, item.team AS team, item.rank AS place
    FROM (SELECT unit, req, unnest(items) AS item FROM ranking) WHERE item.team IS NOT NULL
"""


def _treatment(opened: Database, study: Study) -> str:
    teams = [team for (team,) in opened.rows("SELECT DISTINCT team FROM placed ORDER BY team")]
    others = [team for team in teams if team != CONTROL]
    if not teams:
        raise CommandError(f"no ranking of experiment {study.experiment!r} has teams: both models always agree")
    if len(others) != 1:
        raise CommandError(f"experiment {study.experiment!r} has the teams {', '.join(teams)}; two are compared")
    return str(others[0])


def _events(study: Study) -> str:
    """Create `seen`: what a user did with each item of each ranking."""
    end = "" if study.end_ms is None else f"AND received < {study.end_ms}"
    clock = study.clock("ts")
    return f"""
        CREATE TEMP TABLE seen AS
        WITH event AS (
            SELECT unit, req, item, type, {clock} AS ts, play_ms,
                   CASE WHEN duration_ms > 0 THEN duration_ms END AS length
            FROM all_activity SEMI JOIN placed USING (unit, req, item)
            WHERE type IN ('play_end', 'play', 'finish', 'like', 'unlike') {end}
        ),
        once AS (
            SELECT unit, req, item, max(play_ms) FILTER (play_ms BETWEEN 0 AND {DAY}) AS played, max(length) AS length,
                   bool_or(type IN ('play_end', 'play', 'finish')) AS viewed, bool_or(type = 'finish') AS finished,
                   min(ts) FILTER (type = 'like') AS liked, list(ts) FILTER (type = 'unlike') AS unliked
            FROM event GROUP BY unit, req, item
        )
        SELECT unit, req, item, viewed,
               coalesce(played >= least({VALID_PLAY}, coalesce(length, {VALID_PLAY})), false) AS valid_play,
               coalesce(finished OR played >= length, false) AS finish,
               liked IS NOT NULL AND NOT coalesce(
                   list_bool_or(list_transform(unliked, lambda undone: undone BETWEEN liked AND liked + {UNDO})), false
               ) AS "like"
        FROM once
    """


def _bounded(name: str) -> str:
    ours, theirs = (f'count(*) FILTER ("{name}" AND {team})' for team in (_TREATMENT, _CONTROL))
    return f'sign({ours} - {theirs})::DOUBLE AS "{name}"'


_RANKING_CREDIT: Final = f"""
    CREATE TEMP TABLE ranking_credit AS
    SELECT unit, req, arg_min(team, place) AS first, {", ".join(_bounded(name) for name in CREDITS)}
    FROM placed LEFT JOIN seen USING (unit, req, item) GROUP BY unit, req
"""
_FACTS: Final = f"""
    SELECT count(*) FILTER (answered), (SELECT count(*) FROM ranking_credit),
           count(*) FILTER (answered AND items[1].ranks IS NULL),
           (SELECT count(*) FROM ranking_credit WHERE first <> {quoted(CONTROL)}),
           count(*) FILTER (NOT answered), count(DISTINCT unit)
    FROM (SELECT unit, items, len(items) > 0 AS answered FROM ranking)
"""
