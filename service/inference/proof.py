"""The checks of a bundle before it is served, in a separate process: `python -m service.proof`.

A graph may never end, take all memory, or crash ONNX Runtime. In the process that answers requests none of that can be
stopped; here the kernel stops it. The parent (service/inference/prover.py) sends a request as JSON on standard input,
reads the proof or the refusal from standard output, and then loads only a bundle of the same digest. No run here needs
the ids of items and users, so they are not read; the parent refuses a bundle with bad ones when it loads it.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.bundles.files import UntrustedBundleError
from service.inference.cpus import available_cpus
from service.inference.engine import EngineError, OnnxEngine, ProviderChoice, wants_cuda

_TRIES: Final = 5  # runs of one shape; the best one counts, because the machine may be busy with other things
_TRY_SECONDS: Final = 3.0  # after which there is no further try
_ENOUGH: Final = 0.25  # of the budget: if the largest request is this fast, one thread will do
_GAIN: Final = 0.7  # twice the threads are taken if a run then needs at most this share of its time
_PEAK: Final = re.compile(r"VmHWM:\s*(\d+) kB")


class TooSlowError(EngineError):
    """Its largest request, or all of the proof, takes longer than it may."""


@dataclass(frozen=True, slots=True)
class ProofRequest:
    """A bundle, and its limits."""

    directory: str
    max_bundle_bytes: int
    provider: ProviderChoice
    threads: int  # of one run; 0 chooses by measuring
    max_candidates: int  # of one request
    max_rows: int  # of one batch
    max_batch_candidates: int
    budget_seconds: float  # that the largest request may take
    memory_bytes: int  # that this process may have
    limit_seconds: float  # that all of it may take
    signers: str | None = None  # public keys; None accepts every bundle


@dataclass(frozen=True, slots=True)
class Proof:
    """The results of a bundle's checks."""

    digest: str
    provider: str
    threads: int  # of one run
    request_seconds: float  # of the largest request, best of some runs
    batch_seconds: float  # of the largest batch, best of some runs
    peak_bytes: int  # of resident memory


def prove(request: ProofRequest) -> Proof:
    """Load a bundle, compare its golden scores, and run the largest request and the largest batch.

    Raises:
        BundleError: it must not be served.
        EngineError: its graphs cannot be run, give other scores, or take too long.
    """
    signers = Path(request.signers) if request.signers is not None else None
    bundle = load_bundle(Path(request.directory), max_bytes=request.max_bundle_bytes, reads_ids=False, signers=signers)
    engine, seconds = _engine(bundle, request)
    budget = request.budget_seconds
    if seconds > budget:
        raise TooSlowError(f"too slow: the largest request takes {seconds:.3f} s, allowed {budget:.3f} s")
    batch_seconds = _best(engine, bundle, request.max_rows, request.max_batch_candidates, budget)
    return Proof(bundle.digest, engine.provider, engine.threads, seconds, batch_seconds, _peak_bytes())


def _engine(bundle: Bundle, request: ProofRequest) -> tuple[OnnxEngine, float]:
    """Return an engine, and the seconds of the largest request.

    Unless the request sets the number, it has one thread: a second one costs processor time that another request could
    use. A model that is slow with one thread gets more, as long as twice the threads make it much faster.
    """
    engine, seconds = _tried(bundle, request, request.threads or 1)
    aim, most = _ENOUGH * request.budget_seconds, available_cpus()
    while not request.threads and engine.provider == "cpu" and seconds > aim and engine.threads < most:
        more, more_seconds = _tried(bundle, request, min(2 * engine.threads, most))
        if more_seconds > _GAIN * seconds:
            break
        engine, seconds = more, more_seconds
    return engine, seconds


def _tried(bundle: Bundle, request: ProofRequest, threads: int) -> tuple[OnnxEngine, float]:
    engine = OnnxEngine(bundle, request.provider, threads)
    engine.verify_golden()
    candidates = min(request.max_candidates, bundle.manifest.max_candidates)
    return engine, _best(engine, bundle, 1, candidates, _ENOUGH * request.budget_seconds)


def main() -> int:
    """Answer the request on standard input."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print
    with answer:
        answer.write(answered(sys.stdin.buffer.read()))
    return 0


def answered(content: bytes) -> bytes:
    """Return the answer to a request, both JSON on one line; limits are set for the whole process, for good."""
    request = ProofRequest(**json.loads(content))
    _limit(request)
    return json.dumps(_answer(request)).encode()


def _answer(request: ProofRequest) -> Mapping[str, object]:
    try:
        return {"proof": asdict(prove(request))}
    except BundleError as error:
        return {"refused": str(error), "for_good": True, "untrusted": isinstance(error, UntrustedBundleError)}
    except (EngineError, MemoryError) as error:
        slow = isinstance(error, TooSlowError)
        return {"refused": str(error) or "not enough memory", "for_good": False, "slow": slow}


def _limit(request: ProofRequest) -> None:
    """Let the kernel end this process: at its time limit, at its memory limit, and before any other when memory ends.

    The alarm is for a parent that was killed and can no longer do it. SIGALRM's default action needs no Python code,
    so it ends a run inside ONNX Runtime too.
    """
    signal.alarm(math.ceil(request.limit_seconds) + 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not wants_cuda(request.provider):  # a CUDA context maps far more than it uses
        with suppress(ValueError, OSError):  # a stricter limit is in force
            resource.setrlimit(resource.RLIMIT_DATA, (request.memory_bytes, request.memory_bytes))
    with suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _peak_bytes() -> int:
    """Return the most resident memory so far; 0 where there is no /proc. `getrusage` would count the parent's too."""
    with suppress(OSError):
        found = _PEAK.search(Path("/proc/self/status").read_text(encoding="ascii"))
        return int(found[1]) * 1024 if found else 0
    return 0


def _best(engine: OnnxEngine, bundle: Bundle, rows: int, candidates: int, aim: float) -> float:
    """Return the shortest of some runs of both graphs, in seconds; one that is as fast as the aim is enough.

    One thread is measured in processor time: this process may have to wait for a core.
    """
    clock = time.process_time if engine.provider == "cpu" and engine.threads == 1 else time.perf_counter
    inputs, flat = _full_rows(bundle, rows), _candidates(bundle, candidates)
    row_of = np.sort(np.arange(candidates, dtype=np.int64) % rows)
    context = bundle.unknown_context(rows)
    best, first = math.inf, time.perf_counter()
    for _ in range(_TRIES):
        began = clock()
        encoded = engine.encode(inputs)
        engine.score(encoded, flat, row_of, context)
        best = min(best, clock() - began)
        if best <= aim or time.perf_counter() - first > _TRY_SECONDS:
            break
    return best


def _full_rows(bundle: Bundle, rows: int) -> dict[str, NDArray[Any]]:  # Any: int64 or float32
    """Return the golden row with the longest history, so many times."""
    golden = {name: bundle.golden[f"encode.{name}"] for name in bundle.manifest.sequence.names}
    longest = int((golden["items"] > 0).sum(axis=1).argmax()) if "items" in golden else 0
    return {name: np.repeat(values[longest : longest + 1], rows, axis=0) for name, values in golden.items()}


def _candidates(bundle: Bundle, count: int) -> NDArray[np.int64]:
    return np.resize(np.arange(1, bundle.manifest.item_count + 1, dtype=np.int64), count)


if __name__ == "__main__":
    sys.exit(main())
