"""MLflow, as training and the exporter agree on it: the run that belongs to a run directory, and the client."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from contract import usage_reports
from contract.files import read_object, write_json

URI_VARIABLE: Final = "MLFLOW_TRACKING_URI"
"""The environment variable that every client of MLflow reads."""
MARK: Final = "mlflow.json"
"""In a run directory: the id of its run in MLflow."""
_HABITS: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # with its own 7, a training waits minutes for a server that is gone
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def tracking_uri() -> str | None:
    """Return the tracking server that the environment names."""
    return os.environ.get(URI_VARIABLE) or None  # noqa: TID251 (the name is MLflow's)


def set_habits() -> None:
    """Make MLflow's client give up soon and report nothing to its makers; call it before mlflow is imported.

    A variable that is set already stays.
    """
    usage_reports.turn_off()
    for name, value in _HABITS.items():
        os.environ.setdefault(name, value)  # noqa: TID251 (the client has no other way to be told)


def write_mark(run: Path, run_id: str) -> None:
    """Note the run of MLflow in a run directory."""
    write_json(run / MARK, {"run_id": run_id})


def read_mark(run: Path) -> str | None:
    """Return the id of the run of MLflow; None if the run directory has none.

    Raises:
        BadFileError: the file is damaged.
    """
    return str(read_object(run / MARK)["run_id"]) if (run / MARK).exists() else None
