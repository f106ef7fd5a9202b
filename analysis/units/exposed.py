"""The exposed set: the earliest unforced exposure of each unit in an experiment, with its assigned arm.

It comes from exposures, never from events: who acts may depend on the arm.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from analysis.rules import Study
from analysis.tables.database import Database, quoted
from analysis.tables.reading import rows
from contract.command_line import CommandError

_EARLIEST: Final = "ORDER BY ts, id) = 1"


def find_exposed(database: Database, folder: Path, study: Study) -> None:
    """Create the tables `exposure` (all unforced ones of the experiment) and `exposed` (one row per unit).

    `exposed` has unit, arm, exposed_ts (ms UTC), reason and req of the first exposure; u, the unit's place in the
    order of units; and t0, the time on the study's clock. Units that were exposed in two arms are in `two_arms`.

    Raises:
        CommandError: the experiment has no exposures, or several salts.
    """
    rows(database.connection, folder, "exposures").create_view("all_exposures", replace=True)
    database.run("exposures", _of_experiment(study))
    _check(database, study)
    salt = "" if study.salt is None else f"AND exp_salt = {quoted(study.salt)}"
    database.run(
        "units",
        f"CREATE TEMP TABLE exposure AS SELECT * FROM experiment_exposure WHERE forced = 0 {salt}",
        "CREATE TEMP TABLE two_arms AS SELECT unit FROM exposure GROUP BY unit HAVING count(DISTINCT arm) > 1",
        f"""
        CREATE TEMP TABLE exposed AS
        SELECT (row_number() OVER (ORDER BY unit) - 1)::INTEGER AS u, unit, arm, exposed_ts, reason, req,
               {study.clock("exposed_ts")} AS t0
        FROM (SELECT unit, arm, ts AS exposed_ts, reason, req FROM exposure ANTI JOIN two_arms USING (unit)
              QUALIFY row_number() OVER (PARTITION BY unit {_EARLIEST})
        """,
    )


def _of_experiment(study: Study) -> str:
    end = "" if study.end_ms is None else f"AND ts < {study.end_ms}"
    return f"""
        CREATE TEMP TABLE experiment_exposure AS
        SELECT id, ts, req, unit, arm, reason, cfg, exp_salt, model, ver, outcome, coalesce(forced, 0) AS forced
        FROM all_exposures WHERE exp = {quoted(study.experiment)} AND unit <> '' AND arm <> '' AND ts > 0 {end}
    """


def _check(database: Database, study: Study) -> None:
    unforced = "SELECT exp_salt, min(ts), count(*) FROM experiment_exposure WHERE forced = 0 GROUP BY 1 ORDER BY 2, 1"
    salts = database.connection.execute(unforced).fetchall()
    if not salts:
        raise CommandError(f"experiment {study.experiment!r} has no exposures; {_known(database)}")
    if study.salt is not None and study.salt not in [salt for salt, _, _ in salts]:
        raise CommandError(f"experiment {study.experiment!r} has no exposures with the salt {study.salt!r}")
    if study.salt is None and len(salts) > 1:
        told = ", ".join(f"{salt!r} ({count} exposures, the first at {_utc(first)})" for salt, first, count in salts)
        raise CommandError(
            f"experiment {study.experiment!r} was run with {len(salts)} salts, which assign units differently: {told}; "
            "name the salt to analyse"
        )


def _known(database: Database) -> str:
    query = "SELECT DISTINCT exp FROM all_exposures WHERE exp IS NOT NULL ORDER BY exp LIMIT 20"
    names = [name for (name,) in database.connection.execute(query).fetchall()]
    return f"the data has exposures of {', '.join(names)}" if names else "the data has no exposures at all"


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
