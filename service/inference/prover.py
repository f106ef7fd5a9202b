"""Starts the process that checks a bundle (service/inference/proof.py), and ends it when it takes too long."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from service.bundles.bundle import BundleError
from service.bundles.files import UntrustedBundleError
from service.inference.engine import EngineError
from service.inference.proof import Proof, ProofRequest

_ROOT: Final = Path(__file__).parents[2]  # where `service` can be imported from
_REAP_SECONDS: Final = 1.0  # for a killed process to be gone; one that waits for a dead mount may stay longer


async def prove_in_process(request: ProofRequest) -> Proof:
    """Check a bundle in a separate process; cancelling ends the process.

    Raises:
        BundleError: the bundle must not be served.
        EngineError: it did not pass here and now: other scores, too slow, too much memory, a crash, no end.
    """
    process = await _start()
    try:
        async with asyncio.timeout(request.limit_seconds):
            said, _ = await process.communicate(json.dumps(asdict(request)).encode())
    except TimeoutError as error:
        raise EngineError(f"loading it took longer than {request.limit_seconds:g} s and was ended") from error
    finally:
        await _end(process)
    return _proof(said, process.returncode)


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.inference.proof",
        cwd=_ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(_REAP_SECONDS):
                await process.wait()


def _proof(said: bytes, status: int | None) -> Proof:
    if status:
        raise EngineError(f"the process that tried it {_ended(status)}")
    answer = json.loads(said)
    if "proof" in answer:
        return Proof(**answer["proof"])
    raise _refusal(answer)(answer["refused"])


def _refusal(answer: Mapping[str, Any]) -> type[BundleError | EngineError]:  # Any: JSON
    if answer.get("untrusted"):
        return UntrustedBundleError
    return BundleError if answer["for_good"] else EngineError


def _ended(status: int) -> str:
    if status > 0:
        return f"failed with status {status}"
    name = signal.Signals(-status).name
    return f"was ended by {name}" + (": it ran out of memory" if name == "SIGKILL" else "")
