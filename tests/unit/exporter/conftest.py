"""torch's exporter reads the source of a thousand operators again in every export; for tests once is enough."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from torch.onnx._internal.exporter import _registration


@pytest.fixture(scope="session", autouse=True)
def operators_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        registry = _registration.ONNXRegistry
        patch.setattr(registry, "from_torchlib", staticmethod(cache(registry.from_torchlib)))
        yield
