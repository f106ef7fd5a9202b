"""The rows of the fault table, one module for each family."""

from __future__ import annotations

from importlib import import_module

from tests.faults.row import FAMILIES


def load_all() -> None:
    """Fill the table, in the order of the families."""
    for name in (*FAMILIES, "rolling"):
        import_module(f"tests.faults.rows.{name}")
