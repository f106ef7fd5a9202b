"""The one place that runs ONNX: a bundle's two graphs as sessions, on the CPU or on CUDA, with one code path.

Sessions are made from the bytes whose digest was checked; no file is opened. Which provider truly runs is read back
from the sessions, because ONNX Runtime falls back to the CPU with only a log line.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from operator import itemgetter
from typing import Any, Final, Literal, Protocol, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.bundles.bundle import Bundle
from service.inference.device import BoundGraph, Device, OnDevice, place
from service.inference.faults import EngineError, engine_error
from service.inference.new_items import NewItemGraphs
from service.inference.sessions import (
    CUDA,
    SILENT,
    ProviderChoice,
    check_graph,
    cuda_wanted,
    make_session,
    session_options,
    wants_cuda,
)
from service.inference.shapes import Sessions, ShapedRuns, can_be_shaped

__all__ = ["Array", "Engine", "EngineError", "OnnxEngine", "Outputs", "ProviderChoice", "wants_cuda"]

T = TypeVar("T")
Graph = Literal["encode", "score"]
Array = NDArray[Any]  # Any: int64 or float32, by the manifest
Outputs = Mapping[str, Array]

NO_CONTEXT: Final[Outputs] = {}
_GRAPHS: Final[tuple[Graph, ...]] = ("encode", "score")
_WINS: Final = 0.95  # of a plain run's time: what a captured one may need to be worth its memory
_TRIES, _TRIED_CANDIDATES = 21, 200


class Engine(Protocol):
    """Runs a bundle's two graphs."""

    new_items: NewItemGraphs | None  # for items that training never met, if the bundle has such graphs

    @property
    def provider(self) -> str:
        """Return where the graphs truly run: `cpu` or `cuda`."""

    def encode(self, inputs: Mapping[str, Array]) -> Outputs:
        """Return states and explanations of B rows."""

    def score(
        self, state: Outputs, candidates: NDArray[np.int64], rows: NDArray[np.int64], context: Outputs = NO_CONTEXT
    ) -> Outputs:
        """Return scores and explanations of M flat candidates; `state` may have more than the state."""

    def close(self) -> None:
        """Let go of the sessions."""


class OnnxEngine:
    """A bundle's two graphs in ONNX Runtime.

    Args:
        bundle: verified.
        provider: `auto` takes CUDA where a session truly runs on it, `cuda` refuses to start without.
        threads: threads of one run; 0 is one thread (service/inference/proof.py chooses for each bundle).
        binds: whether runs use IO binding; None uses it on CUDA, where tables and states then stay on the device.

    Raises:
        EngineError: a graph cannot be loaded, differs from the manifest, or `cuda` was asked for and is not to be had.
    """

    def __init__(
        self, bundle: Bundle, provider: ProviderChoice = "auto", threads: int = 0, *, binds: bool | None = None
    ) -> None:
        onnxruntime.set_default_logger_severity(SILENT)
        self._bundle = bundle
        self._running: set[Any] = set()  # Any: onnxruntime.RunOptions of runs under way; the package has no types
        self.threads = threads or 1
        wants_cuda, hint = cuda_wanted(provider)
        options = session_options(self.threads)
        self._sessions = {
            name: make_session(name, content, options, wants_cuda)
            for name, content in (("encode", bundle.encode_model), ("score", bundle.score_model))
        }
        on_cuda = all(session.get_providers()[0] == CUDA for session in self._sessions.values())
        if provider == "cuda" and not on_cuda:
            raise EngineError(f"provider cuda was asked for, but ONNX Runtime runs on the CPU{hint}")
        self._provider: Device = "cuda" if on_cuda else "cpu"
        manifest = bundle.manifest
        check_graph("encode", self._sessions["encode"], manifest.encode, manifest.tables_of("encode"))
        check_graph("score", self._sessions["score"], manifest.score, manifest.tables_of("score"))
        self._tables = {
            graph: {table.name: bundle.tables.arrays[table.name] for table in manifest.tables_of(graph)}
            for graph in _GRAPHS
        }
        self._outputs = {
            "encode": [spec.name for spec in manifest.encode.outputs],
            "score": [spec.name for spec in manifest.score.outputs],
        }
        self._bound = self._bind() if (on_cuda if binds is None else binds) else {}
        self._shaped: ShapedRuns | None = None
        new = bundle.new_items
        self.new_items: NewItemGraphs | None = None if new is None else NewItemGraphs(bundle, new, self.threads)

    @property
    def provider(self) -> str:
        """Return where the graphs truly run: `cpu` or `cuda`."""
        return self._provider

    def encode(self, inputs: Mapping[str, Array]) -> Outputs:
        """Return states and explanations of B rows; inputs as `SequenceSpec.names`.

        Raises:
            EngineError: the run failed.
        """
        shaped = self._shaped
        if shaped is not None:
            found = self._guarded("encode", lambda options: shaped.encode(inputs, options))
            if found is not None:
                return found
        return self._run("encode", inputs)

    def score(
        self, state: Outputs, candidates: NDArray[np.int64], rows: NDArray[np.int64], context: Outputs = NO_CONTEXT
    ) -> Outputs:
        """Return `scores` (M,) and explanations of flat candidates, each with the row of `state` it belongs to.

        `state` may have more than the state. The output of `encode` is passed on in place, without the host. With a
        `context`, the further inputs of a bundle that reads one, `rows` are places among its requests.

        Raises:
            EngineError: the run failed.
        """
        shaped = self._shaped
        if shaped is not None:
            found = self._guarded("score", lambda options: shaped.score(state, candidates, rows, options, context))
            if found is not None:
                return found
        read = state.value if isinstance(state, OnDevice) else state.__getitem__
        inputs = {name: read(name) for name in self._bundle.manifest.state}
        return self._run("score", {**inputs, "candidates": candidates, "rows": rows, **context})

    def verify_golden(self) -> float:
        """Compare this provider's scores with those of the bundle's golden rows; return the largest difference.

        Raises:
            EngineError: a score is not finite, or further off than the manifest's tolerance.
        """
        golden, tolerance = self._bundle.golden, self._bundle.manifest.golden_tolerance
        inputs = {name: golden[f"encode.{name}"] for name in self._bundle.manifest.sequence.names}
        context = self._bundle.golden_context()
        scores = self.score(self.encode(inputs), golden["candidates"], golden["rows"], context)["scores"]
        if scores.shape != golden["scores"].shape or not np.isfinite(scores).all():
            raise EngineError("golden scores: as many finite scores as golden rows are needed")
        difference = float(np.abs(scores - golden["scores"]).max())
        if difference > tolerance:
            raise EngineError(f"golden scores differ by {difference:.2g} on {self._provider}, allowed {tolerance:.2g}")
        return max(difference, 0.0 if self.new_items is None else self.new_items.verify_golden())

    def warm_up(self, batch_sizes: Sequence[int], candidates: int = 200) -> None:
        """Run both graphs on empty histories of each batch size, so that no request pays for a first run.

        Raises:
            EngineError: a run failed.
        """
        for size in batch_sizes:
            self._try(size, candidates)

    def _try(self, size: int, candidates: int) -> None:
        sequence = self._bundle.manifest.sequence
        shapes = {name: (size, sequence.length) if name in sequence.columns else (size,) for name in sequence.names}
        encoded = self.encode({name: np.zeros(shape, dtype=np.int64) for name, shape in shapes.items()})
        rows = np.repeat(np.arange(size, dtype=np.int64), candidates)
        context = self._bundle.unknown_context(size)
        np.asarray(self.score(encoded, np.ones(len(rows), dtype=np.int64), rows, context)["scores"])

    def _seconds(self, size: int) -> float:
        """Return the median time of both graphs for a batch of this size."""
        seconds = []
        for _ in range(_TRIES):
            began = time.perf_counter()
            self._try(size, _TRIED_CANDIDATES)
            seconds.append(time.perf_counter() - began)
        return sorted(seconds)[_TRIES // 2]

    def capture(self, rows: Sequence[int]) -> tuple[int, ...]:
        """Run batches of up to these numbers of rows at fixed shapes, as captured CUDA graphs on CUDA.

        Returns:
            The numbers of rows; none if the graphs cannot be captured or `rows` is empty: then all runs are plain.
        """
        self._shaped = None
        if rows and self._bound and can_be_shaped(self._bundle.manifest):
            with contextlib.suppress(EngineError):  # a node of these graphs runs on the CPU, say
                self._shaped = ShapedRuns(self._captured_sessions(), self._bundle.manifest, self._provider, rows)
                self.warm_up(rows)
                return self._shaped.rows
        self._shaped = None
        return ()

    def capture_where_it_wins(self, batch_sizes: Sequence[int]) -> tuple[int, ...]:
        """Measure batches of these sizes both ways on CUDA, and capture from the smallest on as long as it is faster.

        A smaller batch than the smallest size that wins would be padded to it.
        """
        if self._provider != "cuda":
            return ()
        plain = [self._seconds(size) for size in batch_sizes]
        captured = [self._seconds(size) for size in self.capture(batch_sizes)]
        wins = [two < _WINS * one for one, two in zip(plain, captured, strict=bool(captured))]
        return self.capture([size for size, _ in takewhile(itemgetter(1), zip(batch_sizes, wins, strict=False))])

    def end_runs(self) -> None:
        """End the runs under way, from any thread: each stops before its next node and raises EngineError."""
        for options in tuple(self._running):
            options.terminate = True

    def close(self) -> None:
        """Let go of the sessions; a run that is under way keeps its own until it ends."""
        self._sessions, self._bound, self._shaped = {}, {}, None

    def _bind(self) -> dict[str, BoundGraph]:
        """Return both graphs bound to the device, with each table there once."""
        placed = place(self._bundle.tables.arrays, self._provider)
        return {
            graph: BoundGraph(
                self._sessions[graph], self._provider, self._outputs[graph],
                {name: placed[name] for name in self._tables[graph]},
            )
            for graph in _GRAPHS
        }  # fmt: skip

    def _captured_sessions(self) -> Sessions:
        """Return sessions of their own: a plain run in a session that captures would be captured too."""
        on_cuda, options = self._provider == "cuda", session_options(self.threads)
        encode, score = (
            make_session(graph, content, options, on_cuda, captures=on_cuda)
            for graph, content in (("encode", self._bundle.encode_model), ("score", self._bundle.score_model))
        )
        return Sessions(encode, score, self._bound["encode"].tables, self._bound["score"].tables)

    def _run(self, graph: Graph, inputs: Mapping[str, Any]) -> Outputs:  # Any: arrays, or values on the device
        session, bound, names = self._sessions.get(graph), self._bound.get(graph), self._outputs[graph]
        if session is None:
            raise EngineError("the engine is closed")

        def run(options: Any) -> Outputs:  # Any: onnxruntime.RunOptions
            if bound is not None:
                return bound.run(inputs, options)
            return dict(zip(names, session.run(names, {**inputs, **self._tables[graph]}, options), strict=True))

        return self._guarded(graph, run)

    def _guarded(self, graph: Graph, run: Callable[[Any], T]) -> T:  # Any: onnxruntime.RunOptions
        """Return what a run returns, as one that `end_runs` can end.

        Raises:
            EngineError: it failed.
        """
        options = onnxruntime.RunOptions()
        self._running.add(options)
        try:
            return run(options)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            if options.terminate:
                raise EngineError(f"{graph}: ended, because it took too long", was_ended=True) from error
            raise engine_error(graph, error) from error
        finally:
            self._running.discard(options)
