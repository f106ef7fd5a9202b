"""The model card in MLflow, beside the training that it tells about."""

from __future__ import annotations

from pathlib import Path

from contract.bundle.manifest import MODEL_CARD
from contract.command_line import one_line, without_login
from contract.tracking import read_mark, set_habits


def track_card(run: Path, bundle: Path, uri: str | None) -> str | None:
    """Add the card of a bundle to the run of MLflow that the training began; returns a line about a failure.

    Args:
        run: the run directory.
        bundle: what was written.
        uri: of the tracking server; None = there is none.
    """
    if uri is None or (run_id := read_mark(run)) is None:
        return None
    set_habits()
    try:
        from mlflow import MlflowClient  # takes seconds, and needs the extra

        MlflowClient(uri).log_artifact(run_id, str(bundle / MODEL_CARD), f"{bundle.parent.name}@{bundle.name}")
    except Exception as error:  # of any library: the bundle is written, with or without MLflow
        reason = without_login(one_line(f"{type(error).__name__}: {error}"))
        return f"MLflow: the card was not added: {reason[:300]}"
    return None
