"""From waiting requests to scores: one `encode` for the states that are not cached, one `score` for all candidates.

Synchronous and vectorised: it runs in the inference thread, and there is no Python work per behaviour or per candidate.
Only a bad row fails; its neighbours get exactly the results that they would have got without it.
Symbols: B rows, U distinct states among them, M candidates of all rows in one flat array.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from contract.bundle.context import Codes, context_inputs
from service.bundles.bundle import Bundle
from service.errors import InferenceFailed
from service.inference.encoding import Encoding, States
from service.inference.engine import Engine, EngineError
from service.inference.inputs import InputMaker, Inputs, RankRow
from service.inference.orders import joined, orders
from service.inference.state_cache import StateCache
from service.inference.weighing import weighed
from service.tracing.run import ModelRun

Array = NDArray[Any]  # Any: float32 or int64, by the manifest

_NO_CONTEXT: Final[dict[str, Codes]] = {}
_NOT_KNOWN: Final = "A candidate is outside the model's vocabulary."

_log = structlog.get_logger(__name__)


class ScoredRow(NamedTuple):
    """The model's results for one request."""

    scores: NDArray[np.float32]  # (N,) or fewer: the finite ones
    finite: NDArray[np.bool_] | None  # (N,) which candidates have a score; None where all have
    explanation: Mapping[str, Array]  # the manifest's explanation outputs: this row's, and one entry per candidate
    state_hit: bool
    used: int  # behaviours that were read
    unread: int  # behaviours skipped because the model does not read their action
    unknown: int  # behaviours skipped because the model does not know their item
    truncated: int  # behaviours skipped because they are too old for the sequence length
    new: int  # of those used, behaviours on new items that their features describe
    encode_seconds: float  # of the whole batch
    score_seconds: float
    new_scores: NDArray[np.float32] | None = None  # (K,) of the row's new candidates; None where it has none
    context: NDArray[np.int64] | None = None  # (F,) codes of the request's context; None where the model reads none
    run: ModelRun | None = None  # that scored it
    newest_ms: int | None = None  # time of the newest behaviour that was read
    order: NDArray[np.int64] | None = None  # (N,) places of the scores, best first; None where some are not finite


class NothingScored(InferenceFailed):
    """The model ran and gave no finite score for any candidate of the request."""


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
        self._bundle, self._engine = bundle, engine
        self._on_failure, self._on_not_finite = on_failure, on_not_finite
        self._has_warned, self._item_count = False, bundle.manifest.item_count
        manifest = bundle.manifest
        self._maker, self._targets = InputMaker(bundle), list(manifest.targets)
        self._encoding = Encoding(bundle, engine, states, self._maker)
        encoded = self._encoding.names
        self._scored_explanation = [name for name in manifest.explanation if name not in encoded]
        self._encoded_explanation = [name for name in manifest.explanation if name in encoded]

    def run(self, rows: Sequence[RankRow]) -> list[ScoredRow | Exception]:
        """Score a batch; return for each row its scores, or InferenceFailed for only that row."""
        if not rows:
            return []
        candidates = joined([row.candidates for row in rows])
        if not self._are_known(candidates):
            return self._run_apart(rows)
        started = time.perf_counter()
        return self._isolate(self._maker.make(rows), list(range(len(rows))), candidates, started)

    def _run_apart(self, rows: Sequence[RankRow]) -> list[ScoredRow | Exception]:
        """Score the rows whose candidates are all known; the others fail before anything runs."""
        sound = [row for row in rows if self._are_known(row.candidates)]
        results = iter(self.run(sound))
        return [next(results) if self._are_known(row.candidates) else InferenceFailed(_NOT_KNOWN) for row in rows]

    def _are_known(self, candidates: NDArray[np.int64]) -> bool:
        """Return whether all candidates are in range: -1 would be the last item, and CUDA gives zeros beyond it."""
        # Zero and less become the largest numbers.
        return not len(candidates) or bool((candidates - 1).view(np.uint64).max() < self._item_count)

    def _isolate(
        self, work: Inputs, places: list[int], candidates: NDArray[np.int64], started: float
    ) -> list[ScoredRow | Exception]:
        """Score these rows, whose candidates are in one flat array.

        If the engine fails, score each half again, so that finally only bad rows fail.
        One bad row among B costs about 2 log2(B) more runs, B bad ones 2 B - 1 runs in all.
        """
        try:
            return self._attempt(work, places, candidates, started)
        except EngineError as error:
            if not error.was_ended:  # a run that was ended is not the engine's error: the deployment ended it
                _log.warning("engine_failed", bundle=self._bundle.name, rows=len(places), error=str(error))
                self._on_failure(self._bundle.name)
            if len(places) == 1 or error.fatal or error.was_ended:
                return [_failure(error) for _ in places]
        half = len(places) // 2
        stop = sum(len(work.rows[place].candidates) for place in places[:half])
        return [
            *self._isolate(work, places[:half], candidates[:stop], time.perf_counter()),
            *self._isolate(work, places[half:], candidates[stop:], time.perf_counter()),
        ]

    def _attempt(
        self, work: Inputs, places: list[int], candidates: NDArray[np.int64], started: float
    ) -> list[ScoredRow | Exception]:
        states = self._encoding.of(work, places)
        encoded = time.perf_counter()
        counts = [len(work.rows[place].candidates) for place in places]
        slots = [states.slots[work.facts[place].key] for place in places]
        codes = self._maker.context_of(work, places)
        scored = self._score(states, candidates, slots, counts, codes)
        done = time.perf_counter()
        run = ModelRun(self._bundle.name, len(places), started, encoded - started, done - encoded)
        results = self._results(work, places, counts, slots, states, scored, run)
        if codes is not None:
            results = [
                one if isinstance(one, Exception) else one._replace(context=own)
                for one, own in zip(results, codes, strict=True)
            ]
        if any(work.rows[place].new for place in places):
            results = self._with_new(states, work, places, results, codes)
        if states.new:
            pairs = zip(places, results, strict=True)
            self._encoding.keep(
                states, {work.facts[place].key for place, result in pairs if isinstance(result, Exception)}
            )
        return results

    def _results(
        self,
        work: Inputs,
        places: Sequence[int],
        counts: Sequence[int],
        slots: Sequence[int],
        states: States,
        scored: Mapping[str, Array],
        run: ModelRun,
    ) -> list[ScoredRow | Exception]:
        """Cut what `score` gave into the results of the rows, each with its order."""
        all_scores = self._weighed(work, places, counts, scored)
        finite = np.isfinite(all_scores)
        all_finite = bool(finite.all())
        if not all_finite:
            self._note_not_finite(len(finite) - int(finite.sum()))
        best_first = orders(all_scores, counts) if all_finite else None
        results: list[ScoredRow | Exception] = []
        stop = 0
        for place, count, slot in zip(places, counts, slots, strict=True):
            part = slice(stop, stop := stop + count)
            kept = None if all_finite or bool(finite[part].all()) else finite[part]
            if kept is not None and not kept.any():
                results.append(NothingScored("The model gave no score that is a number."))
                continue
            scores, facts = all_scores[part], work.facts[place]
            results.append(
                ScoredRow(
                    scores if kept is None else scores[kept], kept,
                    self._explanation(states, slot, scored, part, kept) if work.rows[place].explain else {},
                    facts.key not in states.new, *facts[1:6], run.encode_seconds, run.score_seconds,
                    run=run, newest_ms=facts.newest_ms,
                    order=None if best_first is None else best_first[part],
                )
            )  # fmt: skip
        return results

    def _with_new(
        self,
        states: States,
        work: Inputs,
        places: list[int],
        results: list[ScoredRow | Exception],
        codes: Codes | None,
    ) -> list[ScoredRow | Exception]:
        """Score the new candidates of these rows in one run, and add their scores to the results."""
        graphs = self._engine.new_items
        if graphs is None:
            return results
        started = time.perf_counter()
        news = [work.rows[place].new for place in places]
        counts = list(map(len, news))
        slots = np.array([states.slots[work.facts[place].key] for place in places], dtype=np.int64)
        vectors = graphs.vectors([item for new in news for item in new])
        rows, context = _in_context(slots, counts, codes)
        scored = graphs.score(states.outputs, vectors, rows, context)
        scores = self._weighed(work, places, counts, scored)
        seconds, stops = time.perf_counter() - started, np.cumsum(counts)
        return [
            result if isinstance(result, Exception) or not count
            else result._replace(new_scores=scores[stop - count : stop], score_seconds=result.score_seconds + seconds)
            for result, count, stop in zip(results, counts, stops, strict=True)
        ]  # fmt: skip

    def _weighed(
        self, work: Inputs, places: Sequence[int], counts: Sequence[int], scored: Mapping[str, Array]
    ) -> NDArray[np.float32]:
        """Return the scores (M,), by the weights of the rows that have some."""
        weights = [work.rows[place].weights for place in places] if self._targets else ()
        if not any(weights):
            return scored["scores"]
        return weighed(scored, self._targets, weights, counts)

    def _note_not_finite(self, candidates: int) -> None:
        """Count candidates without a finite score; log the first time only, or a bad item would fill the log."""
        if not self._has_warned:
            _log.warning("scores_not_finite", bundle=self._bundle.name, candidates=candidates)
        self._has_warned = True
        self._on_not_finite(self._bundle.name, candidates)

    def _score(
        self,
        states: States,
        candidates: NDArray[np.int64],
        slots: Sequence[int],
        counts: Sequence[int],
        codes: Codes | None,
    ) -> Mapping[str, Array]:
        if not len(candidates):
            return {"scores": np.zeros(0, dtype=np.float32), **dict.fromkeys(self._scored_explanation, candidates)}
        rows, context = _in_context(np.array(slots, dtype=np.int64), counts, codes)
        scored = self._engine.score(states.outputs, candidates, rows, context)
        if any(len(scored[name]) != len(candidates) for name in ("scores", *self._scored_explanation)):
            raise EngineError("score: not one score for each candidate")
        return scored

    def _explanation(
        self, states: States, slot: int, scored: Mapping[str, Array], part: slice, kept: NDArray[np.bool_] | None
    ) -> dict[str, Array]:
        explanation = {name: states.outputs[name][slot] for name in self._encoded_explanation}
        explanation |= {
            name: scored[name][part] if kept is None else scored[name][part][kept] for name in self._scored_explanation
        }
        return explanation


def _in_context(slots: Codes, counts: Sequence[int], codes: Codes | None) -> tuple[Codes, dict[str, Codes]]:
    """Return the rows of flat candidates, and the further inputs of `score` of a bundle that reads the context.

    Without a context a candidate belongs to a row of the state; with one, to a request, which names its row: requests
    of one user share the state, and each has its own context.
    """
    if codes is None:
        return slots.repeat(counts), _NO_CONTEXT
    return np.arange(len(slots), dtype=np.int64).repeat(counts), context_inputs(codes, slots)


def _failure(cause: EngineError) -> InferenceFailed:
    failure = InferenceFailed()
    failure.__cause__ = cause  # what tells a fault of the engine from a score that is not a number
    return failure
