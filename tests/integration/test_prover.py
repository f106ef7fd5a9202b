"""Bundles that pass the golden rows and would hurt the process are tried in a process of their own, and refused.

Each is a fork (test_fork_server.py has the server's own tests), or a new interpreter where a test starts one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.bundles.bundle import BundleError
from service.bundles.registry import BundleRegistry
from service.flow.child_process import ChildProcess
from service.inference import loading, prover
from service.inference.engine import EngineError
from service.inference.fork_server import ForkServer
from service.inference.loading import Loader, NotServable
from service.inference.proof import Proof, ProofRequest
from service.inference.prover import Prover
from tests.support.builders import TinyModel
from tests.support.deployments import settings_of
from tests.support.processes import few_files

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]

REQUEST = ProofRequest(
    directory="", max_bundle_bytes=10_000_000, provider="cpu", threads=1, max_candidates=2_000, max_rows=64,
    max_batch_candidates=20_000, budget_seconds=30.0, memory_bytes=2**30, limit_seconds=60.0,
)  # fmt: skip
SETTINGS = settings_of(
    limits={"max_candidates": 2_000, "deadline_ms": 30_000},
    bundles={"deadline_share": 1, "max_memory_bytes": 2**30},
    inference={"warm_up_rows": (1,)},
)
MODEL = ("tiny", "1")


def asked(model: TinyModel, tmp_path: Path, **changes: object) -> ProofRequest:
    return replace(REQUEST, directory=str(model.write(tmp_path)), **changes)  # type: ignore[arg-type]


async def test_a_good_bundle_shows_its_digest_its_times_and_its_memory(tmp_path: Path) -> None:
    proof = await Prover()(asked(TinyModel(users=3, reads_time=True), tmp_path))
    assert proof.provider == "cpu"
    assert len(proof.digest) == 64
    assert 0 < proof.request_seconds < REQUEST.budget_seconds
    assert proof.batch_seconds > 0
    assert 10_000_000 < proof.peak_bytes < REQUEST.memory_bytes


@pytest.mark.parametrize("is_fork", [False, True])
async def test_a_service_with_too_many_open_files_refuses_for_now(
    tmp_path: Path, forks: ForkServer, is_fork: bool
) -> None:
    prove, request = Prover(forks if is_fork else None), asked(TinyModel(), tmp_path)
    with (
        few_files(os.getpid()),
        pytest.raises(EngineError, match=r"started to try it.*open files"),
    ):
        await prove(request)
    assert (await prove(request)).provider == "cpu"


async def test_an_answer_that_is_none_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def talkative(request: ProofRequest, *, gives_way: bool) -> ChildProcess:
        return ChildProcess(("echo", "a library's words"), given=b"", gives_way=gives_way)

    monkeypatch.setattr(prover, "_interpreter", talkative)
    with pytest.raises(EngineError, match="gave no answer"):
        await Prover()(asked(TinyModel(), tmp_path))


async def test_a_graph_that_never_ends_is_ended(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="took longer than 1 s and was ended"):
        await Prover()(asked(TinyModel(trips=2**60), tmp_path, limit_seconds=1.0))


async def test_a_proof_that_is_a_fork_is_ended_too(tmp_path: Path, forks: ForkServer) -> None:
    with pytest.raises(EngineError, match="took longer than 1 s"):
        await Prover(forks)(asked(TinyModel(trips=2**60), tmp_path, limit_seconds=1.0))


async def test_a_graph_slower_than_the_budget_is_refused_with_its_time(tmp_path: Path, forks: ForkServer) -> None:
    with pytest.raises(EngineError, match=r"too slow: the largest request takes \d+\.\d{3} s, allowed 0\.002 s"):
        await Prover(forks)(asked(TinyModel(trips=50_000), tmp_path, budget_seconds=0.002))


async def test_a_graph_that_takes_all_memory_is_refused(tmp_path: Path) -> None:
    """64 KiB for each of the golden candidates is nothing; for a large request it is more than the limit."""
    with pytest.raises(EngineError, match=r"alloc|memory"):
        await Prover()(asked(TinyModel(hog=250_000), tmp_path, memory_bytes=2**29))


async def test_a_bundle_that_must_not_be_served_is_refused_for_good(tmp_path: Path, forks: ForkServer) -> None:
    with pytest.raises(BundleError, match=r"score\.onnx: 'bias' has a weight that is not a number"):
        await Prover(forks)(asked(TinyModel(nan_weight=3), tmp_path))


async def test_golden_scores_that_differ_are_refused(tmp_path: Path, forks: ForkServer) -> None:
    with pytest.raises(EngineError, match="golden scores differ"):
        await Prover(forks)(asked(TinyModel(spoilt=frozenset({"golden"})), tmp_path))


@pytest.fixture
def interpreters(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ChildProcess, bool]]:
    """Return the new interpreters that are started, and whether each gives way."""
    found: list[tuple[ChildProcess, bool]] = []
    start = prover._interpreter

    def noted(request: ProofRequest, *, gives_way: bool) -> ChildProcess:
        process = start(request, gives_way=gives_way)
        found.append((process, gives_way))
        return process

    monkeypatch.setattr(prover, "_interpreter", noted)
    return found


async def test_a_first_try_without_processor_time_is_no_refusal(
    tmp_path: Path, interpreters: list[tuple[ChildProcess, bool]]
) -> None:
    task = asyncio.create_task(Prover()(asked(TinyModel(), tmp_path, limit_seconds=20.0)))
    os.kill(await started(), signal.SIGSTOP)  # gets as little as beside others who want all of it
    assert (await task).provider == "cpu"
    assert [gives_way for _, gives_way in interpreters] == [True, False]
    assert await interpreters[0][0].ended() == (-signal.SIGKILL, b"")


@pytest.mark.parametrize(
    ("parts", "changes", "tries"),
    [
        ({}, {}, []),
        ({"trips": 50_000}, {"budget_seconds": 0.002}, [False]),
        ({"trips": 2**60}, {"limit_seconds": 1.0}, [False]),
        ({"nan_weight": 3}, {}, []),
        ({"spoilt": frozenset({"golden"})}, {}, []),
    ],
    ids=["good", "slow", "endless", "a weight that is not a number", "other golden scores"],
)
async def test_only_slowness_is_tried_again_without_giving_way(
    tmp_path: Path,
    forks: ForkServer,
    interpreters: list[tuple[ChildProcess, bool]],
    parts: dict[str, Any],
    changes: dict[str, object],
    tries: list[bool],
) -> None:
    request = asked(TinyModel(**parts), tmp_path, **changes)
    with nullcontext() if not parts else pytest.raises((BundleError, EngineError)):
        await Prover(forks)(request)
    assert [gives_way for _, gives_way in interpreters] == tries


async def started() -> int:
    """Wait for this process's own process that tries a bundle, and return its number."""
    async with asyncio.timeout(30):
        while (pid := _child()) is None:  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.01)
    return pid


def _child() -> int | None:
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return next((number for number in numbers if _tries(number)), None)


def _tries(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[1]) == os.getpid() and b"service.inference.proof" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


async def test_a_process_that_dies_is_a_refusal_that_names_the_signal(tmp_path: Path) -> None:
    request = asked(TinyModel(trips=2**60), tmp_path)
    task = asyncio.create_task(Prover()(request))
    os.kill(await started(), signal.SIGSEGV)
    with pytest.raises(EngineError, match="was ended by SIGSEGV"):
        await task


async def test_cancelling_ends_the_process(tmp_path: Path) -> None:
    request = asked(TinyModel(trips=2**60), tmp_path)
    task = asyncio.create_task(Prover()(request))
    pid = await started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _tries(pid)


@pytest.mark.slow
async def test_a_process_whose_parent_is_gone_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent gives up without ending it, as one that was killed does."""

    async def leave(process: ChildProcess) -> None:
        left.append(process)

    left: list[ChildProcess] = []
    monkeypatch.setattr(ChildProcess, "end", leave)
    with pytest.raises(EngineError):
        await Prover()(asked(TinyModel(trips=2**60), tmp_path, limit_seconds=1.0))
    _, equal = left  # the first one gives way: it ends when the other tests leave it a core
    assert await asyncio.wait_for(equal.ended(), 30) == (-signal.SIGALRM, b"")


async def test_a_bundle_that_is_swapped_after_the_proof_is_not_loaded(tmp_path: Path, forks: ForkServer) -> None:
    TinyModel().write(tmp_path)

    def swap(directory: Path) -> None:
        directory.rename(tmp_path / "old")
        TinyModel(offset=5.0).write(tmp_path)

    async def prove_then_swap(request: ProofRequest) -> Proof:
        proof = await Prover(forks)(request)
        swap(Path(request.directory))
        return proof

    with pytest.raises(NotServable, match="it changed while it was loaded"):
        await Loader(BundleRegistry(tmp_path), SETTINGS, prover=prove_then_swap).load(MODEL)


async def test_what_is_proven_is_loaded_and_its_batches_fit_the_budget(tmp_path: Path, forks: ForkServer) -> None:
    TinyModel().write(tmp_path)

    async def slow_batches(request: ProofRequest) -> Proof:
        return replace(await Prover(forks)(request), batch_seconds=4 * REQUEST.budget_seconds)

    loaded = await Loader(BundleRegistry(tmp_path), SETTINGS, prover=slow_batches).load(MODEL)
    assert (loaded.settings.batching.max_rows, loaded.settings.batching.max_batch_candidates) == (16, 5_000)
    loaded.engine.close()
    whole = await Loader(BundleRegistry(tmp_path), SETTINGS, prover=Prover(forks)).load(MODEL)
    assert whole.settings == SETTINGS
    assert whole.engine.threads == 1
    whole.engine.close()


async def test_a_folder_that_cannot_be_listed_in_time_is_a_refusal_and_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a mount whose server is gone: the call does not return."""
    gate = threading.Event()
    monkeypatch.setattr(loading, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(loading, "identity_of", lambda _directory: gate.wait(60))
    loader = Loader(BundleRegistry(tmp_path), SETTINGS, prover=Prover())
    before = set(threading.enumerate())  # threads of earlier tests may end while this one runs, so a count would lie
    for _ in range(3):
        with pytest.raises(NotServable, match="its folder could not be read in time"):
            await loader.load(MODEL)
    assert len(set(threading.enumerate()) - before) == 1
    gate.set()
    loader.close()


async def test_a_refused_bundle_starts_no_second_process(tmp_path: Path, forks: ForkServer) -> None:
    TinyModel(nan_weight=3).write(tmp_path)
    tries: list[ProofRequest] = []

    async def counted(request: ProofRequest) -> Proof:
        tries.append(request)
        return await Prover(forks)(request)

    loader = Loader(BundleRegistry(tmp_path), SETTINGS, prover=counted)
    for _ in range(3):
        with pytest.raises(NotServable, match="not a number"):
            await loader.load(MODEL)
    assert len(tries) == 1
