"""Connections keep their promises on both ways of a ranking."""

from __future__ import annotations

import pytest

from tests.support import ports


@pytest.fixture(params=["short way", "long way"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "HAS_SHORT_WAY", request.param == "short way")
