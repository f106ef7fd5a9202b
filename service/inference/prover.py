"""Has a bundle checked in a process of its own (service/inference/proof.py), and ends that when it takes too long."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

import structlog

from service.bundles.bundle import BundleError
from service.bundles.files import UntrustedBundleError
from service.flow.child_process import ChildProcess
from service.inference.engine import EngineError
from service.inference.fork_server import ForkedProof, ForkServer, ServerGoneError
from service.inference.proof import Proof, ProofRequest, TooSlowError

_PATIENT_SHARE: Final = 0.25  # of the time limit, for the try that gives way

_log = structlog.get_logger(__name__)


class Prover:
    """Checks bundles, each in a process of its own.

    Args:
        forks: starts such a process; without it, each is a new interpreter.
    """

    def __init__(self, forks: ForkServer | None = None) -> None:
        self._forks = forks

    async def __call__(self, request: ProofRequest) -> Proof:
        """Check a bundle; cancelling ends the process.

        It gives way, so that it slows no ranking. On a machine with no core to spare it may then be too slow through
        no fault of the bundle, so the refusal of a slow bundle comes from a second try, which does not give way
        (ADR 0366).

        Raises:
            BundleError: the bundle must not be served.
            EngineError: it did not pass here and now: other scores, too slow, too much memory, a crash, no end.
        """
        try:
            try:
                return await self._patient(replace(request, limit_seconds=_PATIENT_SHARE * request.limit_seconds))
            except TooSlowError:
                return await _result(_interpreter(request, gives_way=False), request.limit_seconds)
        except OSError as error:  # too many processes or open files, no memory
            raise EngineError(f"no process could be started to try it: {error}") from error

    async def _patient(self, request: ProofRequest) -> Proof:
        if self._forks is not None:
            try:
                return await _result(await self._forks.start(_json(request)), request.limit_seconds)
            except ServerGoneError as error:
                _log.warning("fork_server_gone", error=str(error))
                self._forks.close()
                self._forks = None
        return await _result(_interpreter(request, gives_way=True), request.limit_seconds)


def _interpreter(request: ProofRequest, *, gives_way: bool) -> ChildProcess:
    return ChildProcess((sys.executable, "-m", "service.inference.proof"), given=_json(request), gives_way=gives_way)


def _json(request: ProofRequest) -> bytes:
    return json.dumps(asdict(request)).encode()


async def _result(process: ChildProcess | ForkedProof, seconds: float) -> Proof:
    try:
        async with asyncio.timeout(seconds):
            status, answer = await process.ended()
    except TimeoutError as error:
        raise TooSlowError(f"loading it took longer than {seconds:g} s and was ended") from error
    finally:
        await process.end()
    return _proof(answer, status)


def _proof(said: bytes, status: int) -> Proof:
    if status:
        raise EngineError(f"the process that tried it {_ended(status)}")
    try:
        answer = json.loads(said)
    except ValueError as error:
        raise EngineError("the process that tried it gave no answer") from error
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
