"""The edge with fakes behind it, for every test of the service's outermost layers."""

from __future__ import annotations

import pytest

from tests.support.fakes import Edge


@pytest.fixture(scope="module")
def _edge() -> Edge:
    return Edge()


@pytest.fixture
def edge(_edge: Edge) -> Edge:
    """One app for a module's tests, as fresh for each."""
    _edge.reset()
    _edge.runtime.is_draining = False
    return _edge
