"""Two tiny bundles for every test of rankings."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.bundles.bundle import Bundle, load_bundle
from tests.support.rankings import CONTROL, TREATMENT


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root: Path = tmp_path_factory.mktemp("bundles")
    return {model.model: load_bundle(model.write(root), max_bytes=10_000_000) for model in (CONTROL, TREATMENT)}
