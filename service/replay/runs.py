"""One captured ranking, run again: the same bundle and engine, the same stages of the model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import numpy as np

from contract.behaviours.records import RECORD, Records, item_keys
from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.bundles.registry import BundleRegistry
from service.inference.engine import EngineError, OnnxEngine
from service.inference.inputs import RankRow
from service.inference.scorer import Inference
from service.inference.state_cache import StateCache
from service.ranking.answer import ranking_of
from service.ranking.candidates import candidates_of
from service.replay.captured import Captured, Inputs

_MAX_BYTES: Final = 2**40
_NO_STAGES: Final[Mapping[str, float]] = {}


class Replayed(NamedTuple):
    """The median times of a ranking's stages, or why it could not be run."""

    stages_ms: Mapping[str, float] = _NO_STAGES
    problem: str = ""


class _Loaded(NamedTuple):
    bundle: Bundle
    inference: Inference


class _Problem(Exception):  # noqa: N818 - becomes a line of the output
    """A ranking cannot be run."""


class Replayer:
    """Runs captured rankings; each bundle is loaded once.

    Args:
        root: folder of the bundles.
        runs: of each ranking, after one that is not counted.
        signers: public keys; a bundle without the signature of one of them is not run. None accepts all.
    """

    def __init__(self, root: Path, runs: int, signers: Path | None = None) -> None:
        self._registry, self._runs, self._signers = BundleRegistry(root), runs, signers
        self._loaded: dict[tuple[str, str], _Loaded] = {}

    def replay(self, one: Captured) -> Replayed:
        """Return the times of a ranking."""
        if one.inputs is None or not one.inputs.candidates:
            return Replayed(problem="it did not come to a model")
        try:
            loaded = self._of(one)
            row = row_of(one.inputs, loaded.bundle)
            runs = [_run(loaded, row) for _ in range(self._runs + 1)][1:]
        except (_Problem, BundleError, EngineError) as error:
            return Replayed(problem=str(error))
        return Replayed({stage: median(run[stage] for run in runs) * 1000 for stage in runs[0]})

    def _of(self, one: Captured) -> _Loaded:
        key = (one.bundle, one.digest)
        if key not in self._loaded:
            model, _, version = one.bundle.partition("@")
            directory = self._registry.directory(model, version)
            if directory is None:
                raise _Problem(f"{one.bundle!r} is not the name of a bundle")
            bundle = load_bundle(directory, max_bytes=_MAX_BYTES, signers=self._signers)
            if bundle.digest != one.digest:
                raise _Problem(
                    f"{directory} is another bundle: its digest is {bundle.digest[:12]}, not {one.digest[:12]}"
                )
            self._loaded[key] = _Loaded(bundle, Inference(bundle, OnnxEngine(bundle), StateCache(0)))
        return self._loaded[key]


def row_of(inputs: Inputs, bundle: Bundle) -> RankRow:
    """Return the model's input.

    Raises:
        _Problem: an item is not one of the bundle's, or columns have different lengths.
    """
    behaviours = inputs.behaviours
    columns = [behaviours.item, behaviours.age_ms, behaviours.action, behaviours.play_ms, behaviours.value]
    most = max([0, *behaviours.item, *inputs.candidates])
    if len({len(column) for column in columns}) > 1 or most > len(bundle.items) or 0 in inputs.candidates:
        raise _Problem("its inputs are not those of this bundle")
    records: Records = np.zeros(len(behaviours.item), dtype=RECORD)
    records["item"] = item_keys([_id(index, bundle) for index in behaviours.item])
    records["time_ms"] = np.maximum(inputs.request_time_ms - np.array(behaviours.age_ms, dtype=np.int64), 0)
    for name, column in zip(("action", "play_ms", "value"), columns[2:], strict=True):
        records[name] = column
    candidates = np.array(inputs.candidates, dtype=np.int64)
    return RankRow("", records, candidates, inputs.request_time_ms, inputs.explain, context=inputs.context)


def _id(index: int, bundle: Bundle) -> str:
    return bundle.items.ids[index - 1] if index else "\0"  # which no item can be called


def _run(loaded: _Loaded, row: RankRow) -> dict[str, float]:
    """Run a ranking; return the seconds of each stage."""
    [scored] = loaded.inference.run([row])
    if isinstance(scored, Exception):
        raise _Problem(str(scored))
    ids = loaded.bundle.items.ids
    candidates = candidates_of([ids[index - 1] for index in row.candidates.tolist()], loaded.bundle.items)
    began = time.perf_counter()
    ranking_of(loaded.bundle, candidates, scored, limit=None, degraded=(), timings={})
    ordered = time.perf_counter() - began
    return {"encode": scored.encode_seconds, "score": scored.score_seconds, "order": ordered}
