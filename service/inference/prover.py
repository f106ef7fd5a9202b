"""Starts the process that checks a bundle (service/inference/proof.py), and ends it when it takes too long."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from service.bundles.bundle import BundleError
from service.bundles.files import UntrustedBundleError
from service.flow.child_process import ChildProcess
from service.inference.engine import EngineError
from service.inference.proof import Proof, ProofRequest


async def prove_in_process(request: ProofRequest) -> Proof:
    """Check a bundle in a separate process; cancelling ends the process.

    Raises:
        BundleError: the bundle must not be served.
        EngineError: it did not pass here and now: other scores, too slow, too much memory, a crash, no end.
    """
    process = await _start(json.dumps(asdict(request)).encode())
    try:
        async with asyncio.timeout(request.limit_seconds):
            status, said = await process.ended()
    except TimeoutError as error:
        raise EngineError(f"loading it took longer than {request.limit_seconds:g} s and was ended") from error
    finally:
        await process.end()
    return _proof(said, status)


async def _start(request: bytes) -> ChildProcess:
    return ChildProcess((sys.executable, "-m", "service.inference.proof"), given=request)


def _proof(said: bytes, status: int) -> Proof:
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
