"""Starts the process that checks a bundle (service/inference/proof.py), and ends it when it takes too long."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from service.bundles.bundle import BundleError
from service.bundles.files import UntrustedBundleError
from service.flow.child_process import ChildProcess
from service.inference.engine import EngineError
from service.inference.proof import Proof, ProofRequest, TooSlowError

_PATIENT_SHARE: Final = 0.25  # of the time limit, for the try that gives way


async def prove_in_process(request: ProofRequest) -> Proof:
    """Check a bundle in a separate process; cancelling ends the process.

    It gives way, so that it slows no ranking. On a machine with no core to spare it may then be too slow through no
    fault of the bundle, so the refusal of a slow bundle comes from a second try, which does not give way (ADR 0366).

    Raises:
        BundleError: the bundle must not be served.
        EngineError: it did not pass here and now: other scores, too slow, too much memory, a crash, no end.
    """
    try:
        return await _tried(replace(request, limit_seconds=_PATIENT_SHARE * request.limit_seconds), gives_way=True)
    except TooSlowError:
        return await _tried(request, gives_way=False)


async def _tried(request: ProofRequest, *, gives_way: bool) -> Proof:
    process = await _start(json.dumps(asdict(request)).encode(), gives_way)
    try:
        async with asyncio.timeout(request.limit_seconds):
            status, said = await process.ended()
    except TimeoutError as error:
        raise TooSlowError(f"loading it took longer than {request.limit_seconds:g} s and was ended") from error
    finally:
        await process.end()
    return _proof(said, status)


async def _start(request: bytes, gives_way: bool) -> ChildProcess:
    return ChildProcess((sys.executable, "-m", "service.inference.proof"), given=request, gives_way=gives_way)


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
    if answer.get("slow"):
        return TooSlowError
    return BundleError if answer["for_good"] else EngineError


def _ended(status: int) -> str:
    if status > 0:
        return f"failed with status {status}"
    name = signal.Signals(-status).name
    return f"was ended by {name}" + (": it ran out of memory" if name == "SIGKILL" else "")
