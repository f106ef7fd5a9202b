"""The process of one shadow: `python -m service.shadow.process DESCRIPTOR START`.

It loads a bundle, then answers batches that come over the socket pair until the other end closes. It runs at the lowest
priority, and the kernel ends it first when memory ends: it may hang or crash, and the service only counts that.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import orjson

from contract.behaviours.records import RECORD
from service.bundles.bundle import Bundle, load_bundle
from service.inference.engine import OnnxEngine, wants_cuda
from service.inference.inputs import RankRow
from service.inference.scorer import Inference, ScoredRow
from service.inference.state_cache import StateCache
from service.shadow.comparison import Comparison, compare
from service.shadow.messages import HEAD, Asked, Start

_STATES: Final = 1_000
_LOWEST: Final = 19  # of priorities


class Shadowing:
    """A bundle that scores what another one has scored.

    Args:
        bundle: verified.
        engine: has given its golden scores.
    """

    def __init__(self, bundle: Bundle, engine: OnnxEngine) -> None:
        self._bundle = bundle
        self._inference = Inference(bundle, engine, StateCache(_STATES))

    def answer(self, batch: Sequence[Asked]) -> bytes:
        """Score a batch and compare; the answer is JSON."""
        looked_up = [self._bundle.items.indices(one.item_ids) for one in batch]
        rows = [_row(one, indices) for one, indices in zip(batch, looked_up, strict=True)]
        began = time.perf_counter()
        results = self._inference.run(rows)
        seconds = time.perf_counter() - began
        found = [
            _comparison(np.frombuffer(one.scores, dtype=np.float32)[indices > 0], result)
            for one, indices, result in zip(batch, looked_up, results, strict=True)
        ]
        lists = [None if one is None else [*one[:3], *map(list, one[3:])] for one in found]
        return orjson.dumps({"seconds": seconds, "rows": lists})


def _row(asked: Asked, indices: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> RankRow:
    records = np.frombuffer(asked.records, dtype=RECORD)
    return RankRow(asked.user_id, records, indices[indices > 0], asked.request_time_ms, context=asked.context)


def _comparison(
    served: np.ndarray[tuple[int, ...], np.dtype[np.float32]], result: ScoredRow | Exception
) -> Comparison | None:
    """Compare the candidates that both bundles have scored; None if the shadow failed."""
    if isinstance(result, Exception):
        return None
    return compare(served if result.finite is None else served[result.finite], result.scores)


def main(arguments: Sequence[str]) -> int:
    """Load the bundle and answer until the service closes its end."""
    start = Start(**json.loads(arguments[1]))
    _limit(start)
    with socket.socket(fileno=int(arguments[0])) as service, service.makefile("rb") as reader:
        bundle = load_bundle(
            Path(start.directory),
            max_bytes=start.max_bundle_bytes,
            map_tables=start.map_tables,
            signers=Path(start.signers) if start.signers is not None else None,
        )
        engine = OnnxEngine(bundle, start.provider, start.threads)
        engine.verify_golden()
        shadowing = Shadowing(bundle, engine)
        _send(service, b"")
        while (content := _received(reader)) is not None:
            _send(service, shadowing.answer(pickle.loads(content)))
    return 0


def _limit(start: Start) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not wants_cuda(start.provider):  # a CUDA context maps far more than it uses
        with suppress(ValueError, OSError):  # a stricter limit is in force
            resource.setrlimit(resource.RLIMIT_DATA, (start.memory_bytes, start.memory_bytes))
    with suppress(OSError):
        os.nice(_LOWEST)
    with suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _send(service: socket.socket, content: bytes) -> None:
    service.sendall(HEAD.pack(len(content)) + content)


def _received(reader: BinaryIO) -> bytes | None:
    """Return the next message, or None when the service has closed its end."""
    head = reader.read(HEAD.size)
    return reader.read(HEAD.unpack(head)[0]) if len(head) == HEAD.size else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
