"""Fixtures that several rooms use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.redis_server import RedisServer

# The same examples in every run: a failure that comes and goes with the machine's luck helps nobody.
settings.register_profile("ranker", derandomize=True, deadline=None)
settings.load_profile("ranker")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests (`pytest.mark.anyio`) run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def redis_server(_redis_server: RedisServer) -> RedisServer:
    """A real Redis, empty; shared between tests, so do not stop it."""
    _redis_server.call("FLUSHALL")
    return _redis_server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A real Redis of the test's own, to be frozen, killed and started again."""
    server = RedisServer().start()
    yield server
    server.close()
