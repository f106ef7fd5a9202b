"""Whether a run is fit to be exported: its model must reach popularity and chance on its own test."""

from __future__ import annotations

from exporter.errors import ExportError
from exporter.run.directory import Run


def check_quality(run: Run) -> None:
    """Check the verdict that training stored; a run without one passes, and its card tells so.

    Raises:
        ExportError: the model is below a baseline; the message has both values.
    """
    if run.judgement.below:
        raise ExportError(f"{run.directory}: {below(run)}; --force exports it, and the model card keeps the mark")


def below(run: Run) -> str:
    """Return in words what the model is below of, empty if it is not."""
    judgement = run.judgement
    metric = judgement.first_metric
    reached = run.metrics["test"][metric]
    return "; ".join(
        f"below {name}: {metric} {reached:.4f}, {name} {judgement.baselines[name][metric]:.4f}"
        for name in judgement.below
    )
