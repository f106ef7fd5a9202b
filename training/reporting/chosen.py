"""The reporters that a command line asks for."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from training.reporting.curves import PICTURE, Curves
from training.reporting.ml_flow import MLflow
from training.reporting.reporter import Reporter
from training.reporting.tensor_board import TensorBoard


def chosen(say: Callable[[str], None], *, tensorboard: bool, mlflow: str | None) -> list[Reporter]:
    """Return the reporters that are asked for, and the picture; those that are not installed are named in a line.

    Args:
        say: prints a line.
        tensorboard: whether to write an events file.
        mlflow: URI of the tracking server, if any.
    """
    asked: list[tuple[Reporter, str, str]] = []
    if tensorboard:
        asked.append((TensorBoard(), "tensorboard", "no events file: the extra tensorboard is not installed"))
    if mlflow:
        asked.append((MLflow(mlflow), "mlflow", "MLflow is told nothing: the extra mlflow is not installed"))
    asked.insert(0, (Curves(), "matplotlib", f"no {PICTURE}: matplotlib is not installed"))  # MLflow gets the picture
    found: list[Reporter] = []
    for reporter, package, missing in asked:
        if find_spec(package) is None:
            say(f"{missing} (pip install {package if package != 'mlflow' else 'mlflow-skinny'})")
        else:
            found.append(reporter)
    return found
