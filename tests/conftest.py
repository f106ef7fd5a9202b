"""Fixtures that several rooms use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.redis_server import RedisServer

# What tests ask is on this machine: a proxy of the environment must not be asked for it, by children neither.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

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
