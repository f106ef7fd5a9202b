"""Fixtures that several rooms use."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.internal.charmap import intervals_from_codec
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from tests.support.plain_log import use_plain_log
from tests.support.redis_server import RedisServer, free_port
from tests.support.warm_service import starter

if TYPE_CHECKING:
    from service.inference.fork_server import ForkServer

# Tests only connect to this machine: neither they nor their child processes use a proxy of the environment.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

# One thread for numpy and torch, here and in children: these arrays are tiny, and threads that wait for one another
# on a shared machine double the processor time of a run. Before torch is imported, which reads it then.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

# The same examples in every run: a failure that appears at random does not help.
# `make test-slow` tries many more of them, for every test that has examples.
settings.register_profile("ranker", derandomize=True, deadline=None, max_examples=20)
settings.register_profile("thorough", derandomize=True, deadline=None, max_examples=300)
settings.load_profile("ranker")


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Draw no constants of this project's modules in a default run: each process would parse all that it has imported.

    Then a test also has the same examples when it runs without the others. `make test-slow` draws these constants too.
    """
    if settings.get_current_profile_name() == "ranker":
        providers._get_local_constants = Constants


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Import a share of the test files first, if this is one of several processes that run all tests.

    In a clean clone each would compile every file, all in the same order; so each compiles its share for the others.
    The process that starts them, which waits, computes what Hypothesis needs for texts and keeps in a file.
    """
    given = getattr(session.config, "workerinput", None)
    if given is None or session.config.args != session.config.getini("testpaths"):
        if getattr(session.config.option, "tx", None):
            Thread(target=intervals_from_codec, args=("utf-8",), daemon=True).start()
        return
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    for file in files[int(given["workerid"].removeprefix("gw")) :: given["workercount"]]:
        with suppress(BaseException):  # the collection imports it again, and reports the error
            import_module(".".join(file.relative_to(session.config.rootpath).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that export come first: so one process runs them all, since the first export in a process takes 3 s more.

    pytest-xdist gives the first process the first part of the list, and others take from its end.
    """
    items.sort(key=lambda item: operators_read_once.__name__ not in getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    """Set up the log. Keep imported objects out of garbage collections: with torch, each full one takes 0.5 s.

    Later collections are rarer too: tests import more, and what they make is small.
    """
    use_plain_log()
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 100)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests (`pytest.mark.anyio`) run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def operators_read_once() -> Iterator[None]:
    """torch's exporter reads the source of a thousand operators in every export, and lists all operators fifty times.

    For tests once is enough: they register none. For each of twelve thousand kernels that an export registers, torch
    also builds the type of a function; `dict[...]` is built a hundred times as fast as `Callable[...]`.
    """
    import torch
    from torch._export import utils
    from torch.onnx._internal.exporter import _registration  # a second, for tests that export

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_materialize_cpp_cia_ops", cache(utils._materialize_cpp_cia_ops))
        patch.setattr(torch._ops, "Callable", dict)
        registry = _registration.ONNXRegistry
        patch.setattr(registry, "from_torchlib", staticmethod(cache(registry.from_torchlib)))
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_callers() -> Iterator[None]:
    """httpx gives up after 5 s, and reads all certificates of the machine for each client.

    Tests call this machine, mostly without TLS, and a loaded machine may pause for longer.
    """
    from httpx._config import DEFAULT_TIMEOUT_CONFIG
    from httpx._transports import default

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "create_ssl_context", cache(default.create_ssl_context))
        for wait in ("connect", "read", "write", "pool"):
            patch.setattr(DEFAULT_TIMEOUT_CONFIG, wait, 60.0)
        yield


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Return the server that starts the processes that try bundles."""
    server = starter().forks()
    yield server
    server.close()


@pytest.fixture
def warm_proofs(forks: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service in this process tries bundles in forks, as one with a process of its own does."""
    from service.app import serving
    from service.inference.prover import Prover

    monkeypatch.setattr(serving, "Prover", lambda _none: Prover(forks))


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


@pytest.fixture
def port_redis() -> Iterator[RedisServer]:
    """A real Redis of the test's own, on a port."""
    server = RedisServer(port=free_port()).start()
    yield server
    server.close()


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command line that must be refused; returns its line."""
    monkeypatch.setattr("contract.progress.PLAIN_SECONDS", math.inf)  # on a busy machine there are lines of progress

    def run(main: Callable[[list[str]], int], *arguments: object, status: int = 1) -> str:
        capfd.readouterr()
        assert main([str(argument) for argument in arguments]) == status
        said = capfd.readouterr().err
        assert said.count("\n") == 1, said
        return said

    return run
