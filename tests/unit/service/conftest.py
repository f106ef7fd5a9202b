"""The edge with fakes behind it, for every test of the service's outermost layers."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.support.fakes import Edge
from tests.support.plain_log import use_plain_log


@pytest.fixture(scope="module")
def _edge() -> Edge:
    return Edge()


@pytest.fixture
def edge(_edge: Edge) -> Edge:
    """One app for a module's tests, as fresh for each."""
    _edge.reset()
    _edge.runtime.is_draining = False
    return _edge


@pytest.fixture
def log_as_before() -> Iterator[None]:
    """Undo what the test does to the logs of the process."""
    root = logging.getLogger()
    handlers, level, raises = list(root.handlers), root.level, logging.raiseExceptions
    yield
    use_plain_log()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of the environment that runs the tests."""
    for name in [name for name in os.environ if name.upper().startswith("RANKER_")]:
        monkeypatch.delenv(name)
