from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def always(operators_read_once: None) -> None:
    """Most tests of this folder export a model."""
