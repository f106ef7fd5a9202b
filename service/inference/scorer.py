"""From waiting requests to scores: one `encode` for the states that are not cached, one `score` for all candidates.

Synchronous and vectorised: it runs in the inference thread, and there is no Python work per behaviour or per candidate.
Only a bad row fails; its neighbours get exactly the results that they would have got without it.
Symbols: B rows, U distinct states among them, M candidates of all rows in one flat array, T sequence length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from contract.behaviours import RECORD, Records
from contract.tensors import Arrays, windows
from service.bundles.bundle import Bundle
from service.errors import InferenceFailed
from service.inference.device import leading
from service.inference.engine import Engine, EngineError, Outputs
from service.inference.state_cache import State, StateCache, StateKey

Array = NDArray[Any]  # Any: float32 or int64, by the manifest

_FIELDS: Final = {"times": "time_ms", "actions": "action", "values": "value", "plays": "play_ms"}
_KEY_BYTES: Final = 16
_MAX_TIME_MS: Final = 2**63 - 1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RankRow:
    """One request in the model's terms."""

    user_id: str
    records: Records  # stored and recent ones, in any order; of one time, the later in the array is the newer
    candidates: NDArray[np.int64]  # (N,) indices of known items, all > 0
    request_time_ms: int
    explain: bool = False


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """The model's results for one request."""

    scores: NDArray[np.float32]  # (N,) or fewer: the finite ones
    finite: NDArray[np.bool_] | None  # (N,) which candidates have a score; None where all have
    explanation: Mapping[str, Array]  # the manifest's explanation outputs: this row's, and one entry per candidate
    state_hit: bool
    used: int  # behaviours that were read
    unread: int  # behaviours skipped because the model does not read their action
    unknown: int  # behaviours skipped because the model does not know their item
    truncated: int  # behaviours skipped because they are too old for the sequence length
    encode_seconds: float  # of the whole batch
    score_seconds: float


class NothingScored(InferenceFailed):
    """The model ran and gave no finite score for any candidate of the request."""


@dataclass(frozen=True, slots=True)
class _Work:
    rows: Sequence[RankRow]
    inputs: Arrays  # each (B, T) or (B,)
    keys: Sequence[StateKey]
    used: Sequence[int]
    unread: Sequence[int]
    unknown: Sequence[int]
    truncated: Sequence[int]


@dataclass(frozen=True, slots=True)
class _States:
    outputs: Outputs  # of `encode`, each (U, ...)
    slots: Mapping[StateKey, int]  # to the row of `outputs`
    new: frozenset[StateKey]


class Inference:
    """One bundle's graphs behind one engine.

    Args:
        bundle: verified.
        engine: runs its graphs.
        states: cache, shared between bundles.
        on_failure: called with the bundle's name at each run of a graph that fails; from the inference thread.
        on_not_finite: called with the bundle's name and a number of candidates whose score is not finite.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        states: StateCache,
        on_failure: Callable[[str], None] = lambda _: None,
        on_not_finite: Callable[[str, int], None] = lambda _name, _count: None,
    ) -> None:
        self._bundle, self._engine, self._states = bundle, engine, states
        self._on_failure, self._on_not_finite = on_failure, on_not_finite
        self._has_warned = False
        manifest = bundle.manifest
        self._sequence = manifest.sequence
        self._read = np.zeros(256, dtype=np.bool_)  # by action code
        self._read[manifest.sequence.action_codes] = True
        self._encoded_names = [spec.name for spec in manifest.encode.outputs]
        self._scored_explanation = [name for name in manifest.explanation if name not in self._encoded_names]
        self._encoded_explanation = [name for name in manifest.explanation if name in self._encoded_names]

    def run(self, rows: Sequence[RankRow]) -> list[ScoredRow | Exception]:
        """Score a batch; return for each row its scores, or InferenceFailed for only that row."""
        results: dict[int, ScoredRow | Exception] = {}
        sound = []
        for place, row in enumerate(rows):
            if self._is_sound(row):
                sound.append(place)
            else:
                results[place] = InferenceFailed("A candidate is outside the model's vocabulary.")
        if sound:
            started = time.perf_counter()
            work = self._prepare([rows[place] for place in sound])
            for place, result in zip(sound, self._isolate(work, list(range(len(sound))), started), strict=True):
                results[place] = result
        return [results[place] for place in range(len(rows))]

    def _is_sound(self, row: RankRow) -> bool:
        """Return whether all candidates are in range: -1 would be the last item, and CUDA gives zeros beyond it."""
        candidates = row.candidates
        return not len(candidates) or bool(
            candidates.min() > 0 and candidates.max() <= self._bundle.manifest.item_count
        )

    def _prepare(self, rows: Sequence[RankRow]) -> _Work:
        """Turn all rows' behaviours into the inputs of `encode`, in one go."""
        B, length = len(rows), self._sequence.length
        # Joined as bytes: numpy concatenates structured arrays field by field, which costs five times as much.
        flat = np.frombuffer(b"".join([row.records.tobytes() for row in rows]), dtype=RECORD)
        row_of = np.repeat(np.arange(B), [len(row.records) for row in rows])
        is_read = self._read[flat["action"]]
        unread = np.bincount(row_of[~is_read], minlength=B)
        places = np.flatnonzero(is_read)
        indices = self._bundle.items.indices_of_keys(flat["item"][places])
        known = indices > 0
        unknown = np.bincount(row_of[places[~known]], minlength=B)
        places, indices = places[known], indices[known]
        order = np.lexsort((flat["time_ms"][places], row_of[places]))  # stable: of one time, the later is the newer
        counts = np.bincount(row_of[places], minlength=B)
        stops = np.cumsum(counts)
        columns = self._columns(flat, places[order], indices[order])
        inputs = {**windows(columns, stops - counts, stops, length), **self._row_inputs(rows)}
        used = np.minimum(counts, length)
        keys = self._keys(inputs, B)
        return _Work(
            rows, inputs, keys, used.tolist(), unread.tolist(), unknown.tolist(), (counts - used).tolist()
        )  # fmt: skip

    def _columns(self, flat: Records, places: NDArray[np.int64], indices: NDArray[np.int64]) -> Arrays:
        return {
            name: indices if name == "items" else flat[_FIELDS[name]][places].astype(np.int64)
            for name in self._sequence.columns
        }

    def _row_inputs(self, rows: Sequence[RankRow]) -> Arrays:
        users = self._bundle.users
        inputs: Arrays = {}
        for name in self._sequence.row_inputs:
            if name == "user":
                inputs[name] = np.array([users.index(row.user_id) if users else 0 for row in rows], dtype=np.int64)
            else:
                times = [min(max(row.request_time_ms, 0), _MAX_TIME_MS) for row in rows]
                inputs[name] = np.array(times, dtype=np.int64)
        return inputs

    def _keys(self, inputs: Arrays, B: int) -> list[StateKey]:
        table = np.concatenate([inputs[name].reshape(B, -1) for name in self._sequence.names], axis=1)
        digest = self._bundle.digest
        return [(digest, blake2b(row.tobytes(), digest_size=_KEY_BYTES).digest()) for row in table]

    def _isolate(self, work: _Work, places: list[int], started: float) -> list[ScoredRow | Exception]:
        """Score these rows; if the engine fails, score each half again, so that finally only bad rows fail.

        One bad row among B costs about 2 log2(B) more runs, B bad ones 2 B - 1 runs in all.
        """
        try:
            return self._attempt(work, places, started)
        except EngineError as error:
            if not error.was_ended:  # a run that was ended is not the engine's error: the deployment ended it
                _log.warning("engine_failed", bundle=self._bundle.name, rows=len(places), error=str(error))
                self._on_failure(self._bundle.name)
            if len(places) == 1 or error.fatal or error.was_ended:
                return [_failure(error) for _ in places]
        half = len(places) // 2
        return [
            *self._isolate(work, places[:half], time.perf_counter()),
            *self._isolate(work, places[half:], time.perf_counter()),
        ]

    def _attempt(self, work: _Work, places: list[int], started: float) -> list[ScoredRow | Exception]:
        states = self._encode(work, places)
        encoded = time.perf_counter()
        counts = [len(work.rows[place].candidates) for place in places]
        slots = [states.slots[work.keys[place]] for place in places]
        scored = self._score(states, np.concatenate([work.rows[place].candidates for place in places]), slots, counts)
        done = time.perf_counter()
        stops = np.cumsum(counts)
        finite = np.isfinite(scored["scores"])
        all_finite = bool(finite.all())
        if not all_finite:
            self._note_not_finite(len(finite) - int(finite.sum()))
        results: list[ScoredRow | Exception] = []
        for place, stop, count, slot in zip(places, stops.tolist(), counts, slots, strict=True):
            part = slice(stop - count, stop)
            kept = None if all_finite or bool(finite[part].all()) else finite[part]
            if kept is not None and not kept.any():
                results.append(NothingScored("The model gave no score that is a number."))
                continue
            scores = scored["scores"][part]
            results.append(
                ScoredRow(
                    scores if kept is None else scores[kept], kept,
                    self._explanation(states, slot, scored, part, kept) if work.rows[place].explain else {},
                    work.keys[place] not in states.new, work.used[place], work.unread[place], work.unknown[place],
                    work.truncated[place], encoded - started, done - encoded,
                )
            )  # fmt: skip
        failed = {
            work.keys[place] for place, result in zip(places, results, strict=True) if isinstance(result, Exception)
        }
        self._keep(states, failed)
        return results

    def _note_not_finite(self, candidates: int) -> None:
        """Count candidates without a finite score; log the first time only, or a bad item would fill the log."""
        if not self._has_warned:
            _log.warning("scores_not_finite", bundle=self._bundle.name, candidates=candidates)
        self._has_warned = True
        self._on_not_finite(self._bundle.name, candidates)

    def _encode(self, work: _Work, places: list[int]) -> _States:
        """Return the states of these rows: cached ones as they are, the others encoded, identical rows once."""
        slots: dict[StateKey, int] = {}
        first: list[int] = []  # of each slot, a row that has its input
        for place in places:
            if work.keys[place] not in slots:
                slots[work.keys[place]] = len(slots)
                first.append(place)
        keys = list(slots)
        found = self._states.find(keys)
        missing = [slot for slot, state in enumerate(found) if state is None]
        if not missing:
            columns = [np.stack(column) for column in zip(*(state for state in found if state), strict=True)]
            return _States(dict(zip(self._encoded_names, columns, strict=True)), slots, frozenset())
        rows = [first[slot] for slot in missing]
        encoded = self._engine.encode({name: column[rows] for name, column in work.inputs.items()})
        if any(leading(encoded, name) != len(missing) for name in self._encoded_names):
            raise EngineError("encode: not one state for each row")
        new = frozenset(keys[slot] for slot in missing)
        if len(missing) == len(found):
            return _States(encoded, slots, new)
        fresh = [encoded[name] for name in self._encoded_names]
        outputs = dict(zip(self._encoded_names, _interleave(found, fresh, missing), strict=True))
        return _States(outputs, slots, new)

    def _score(
        self, states: _States, candidates: NDArray[np.int64], slots: Sequence[int], counts: Sequence[int]
    ) -> Mapping[str, Array]:
        if not len(candidates):
            return {"scores": np.zeros(0, dtype=np.float32), **dict.fromkeys(self._scored_explanation, candidates)}
        rows = np.repeat(np.array(slots, dtype=np.int64), counts)
        scored = self._engine.score(states.outputs, candidates, rows)
        if any(len(scored[name]) != len(candidates) for name in ("scores", *self._scored_explanation)):
            raise EngineError("score: not one score for each candidate")
        return scored

    def _explanation(
        self, states: _States, slot: int, scored: Mapping[str, Array], part: slice, kept: NDArray[np.bool_] | None
    ) -> dict[str, Array]:
        explanation = {name: states.outputs[name][slot] for name in self._encoded_explanation}
        explanation |= {
            name: scored[name][part] if kept is None else scored[name][part][kept] for name in self._scored_explanation
        }
        return explanation

    def _keep(self, states: _States, failed: set[StateKey]) -> None:
        """Keep new states, but none that led to a failure; copied, or one row would hold the whole batch in memory."""
        self._states.keep(
            (key, tuple([states.outputs[name][slot].copy() for name in self._encoded_names]))
            for key, slot in states.slots.items()
            if key in states.new and key not in failed
        )


def _failure(cause: EngineError) -> InferenceFailed:
    failure = InferenceFailed()
    failure.__cause__ = cause  # what tells a fault of the engine from a score that is not a number
    return failure


def _interleave(found: Sequence[State | None], fresh: Sequence[Array], missing: Sequence[int]) -> list[Array]:
    """Put cached and fresh states together, in slot order."""
    outputs = [np.empty((len(found), *output.shape[1:]), dtype=output.dtype) for output in fresh]
    hits = [(slot, state) for slot, state in enumerate(found) if state is not None]
    for number, output in enumerate(outputs):
        output[missing] = fresh[number]
        for slot, state in hits:
            output[slot] = state[number]
    return outputs
