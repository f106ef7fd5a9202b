"""The page, served."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from contract.bundle import manifest as names
from service.bundles.bundle import Bundle, load_bundle
from tests.support.builders import TinyModel
from tests.support.served_page import MARKUP, Served


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    root = tmp_path_factory.mktemp("bundles")
    known = TinyModel(model="mgnm", items=30, users=300)
    directory = known.write(root)
    films = {
        "i1": {"title": MARKUP, "genres": ["<b>Drama</b>", 7, "War"]},
        "i2": {"title": 3},
        "i3": {"title": "\ud800"},
    }
    (directory / names.CATALOGUE).write_text(json.dumps({"items": films}))
    known.seal(directory)
    other = TinyModel(model="pyramid_mixer", items=40).write(root)
    return [load_bundle(path, max_bytes=2**24) for path in (directory, other)]


@pytest.fixture
async def served(bundles: list[Bundle]) -> AsyncIterator[Served]:
    served = Served(bundles)
    async with served.client:
        yield served
