"""The rows of the fault table, one module for each family."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from tests.faults.row import FAMILIES

_MORE: Final = ("redis_errors", "redis_moves", "pressure", "rolling")  # parts of families with many rows


def load_all() -> None:
    """Fill the table, in the order of the families."""
    for name in (*FAMILIES, *_MORE):
        import_module(f"tests.faults.rows.{name}")
