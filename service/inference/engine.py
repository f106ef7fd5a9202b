"""The one place that runs ONNX: a bundle's two graphs as sessions, on the CPU or on CUDA, with one code path.

Sessions are made from the bytes whose digest was checked; no file is opened. Which provider truly runs is read back
from the sessions, because ONNX Runtime falls back to the CPU with only a log line.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from contract.manifest import GraphSpec, TableSpec, TensorSpec
from service.bundles.bundle import Bundle
from service.inference.device import BoundGraph, Device, OnDevice, place
from service.inference.faults import EngineError, engine_error

__all__ = ["Array", "Engine", "EngineError", "OnnxEngine", "Outputs", "ProviderChoice", "wants_cuda"]

Graph = Literal["encode", "score"]
ProviderChoice = Literal["auto", "cpu", "cuda"]
Array = NDArray[Any]  # Any: int64 or float32, as the manifest says of each name
Outputs = Mapping[str, Array]

_ORT_TYPES: Final = {"int64": "tensor(int64)", "float32": "tensor(float)"}
_GRAPHS: Final[tuple[Graph, ...]] = ("encode", "score")
_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
# Small models: no growth by doubling, no minutes of convolution search, and float32 means float32, as on the CPU.
_CUDA_OPTIONS: Final = {
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
}
_SILENT: Final = 4  # ONNX Runtime logs to stderr in a format of its own; its exceptions say the same


class Engine(Protocol):
    """What runs a bundle's two graphs."""

    @property
    def provider(self) -> str:
        """Return where the graphs truly run: `cpu` or `cuda`."""

    def encode(self, inputs: Mapping[str, Array]) -> Outputs:
        """Return states and explanations of B rows."""

    def score(self, state: Outputs, candidates: NDArray[np.int64], rows: NDArray[np.int64]) -> Outputs:
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
        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(_SILENT)
        self._bundle = bundle
        self._running: set[Any] = set()  # Any: onnxruntime.RunOptions of runs under way; the package has no types
        self.threads = threads or 1
        wants_cuda, hint = _cuda_wanted(provider)
        options = _session_options(self.threads)
        self._sessions = {
            name: _session(name, content, options, wants_cuda)
            for name, content in (("encode", bundle.encode_model), ("score", bundle.score_model))
        }
        on_cuda = all(session.get_providers()[0] == _CUDA for session in self._sessions.values())
        if provider == "cuda" and not on_cuda:
            raise EngineError(f"provider cuda was asked for, but ONNX Runtime runs on the CPU{hint}")
        self._provider: Device = "cuda" if on_cuda else "cpu"
        manifest = bundle.manifest
        _check_graph("encode", self._sessions["encode"], manifest.encode, manifest.tables_of("encode"))
        _check_graph("score", self._sessions["score"], manifest.score, manifest.tables_of("score"))
        self._tables = {
            graph: {table.name: bundle.tables.arrays[table.name] for table in manifest.tables_of(graph)}
            for graph in _GRAPHS
        }
        self._outputs = {
            "encode": [spec.name for spec in manifest.encode.outputs],
            "score": [spec.name for spec in manifest.score.outputs],
        }
        self._bound = self._bind() if (on_cuda if binds is None else binds) else {}

    @property
    def provider(self) -> str:
        """Return where the graphs truly run: `cpu` or `cuda`."""
        return self._provider

    def encode(self, inputs: Mapping[str, Array]) -> Outputs:
        """Return states and explanations of B rows; inputs as `SequenceSpec.names`.

        Raises:
            EngineError: the run failed.
        """
        return self._run("encode", inputs)

    def score(self, state: Outputs, candidates: NDArray[np.int64], rows: NDArray[np.int64]) -> Outputs:
        """Return `scores` (M,) and explanations of flat candidates, each with the row of `state` it belongs to.

        `state` may have more than the state. What `encode` returned is passed on where it is, without the host.

        Raises:
            EngineError: the run failed.
        """
        read = state.value if isinstance(state, OnDevice) else state.__getitem__
        inputs = {name: read(name) for name in self._bundle.manifest.state}
        return self._run("score", {**inputs, "candidates": candidates, "rows": rows})

    def verify_golden(self) -> float:
        """Compare this provider's scores with those of the bundle's golden rows; return the largest difference.

        Raises:
            EngineError: a score is not finite, or further off than the manifest's tolerance.
        """
        golden, tolerance = self._bundle.golden, self._bundle.manifest.golden_tolerance
        inputs = {name: golden[f"encode.{name}"] for name in self._bundle.manifest.sequence.names}
        scores = self.score(self.encode(inputs), golden["candidates"], golden["rows"])["scores"]
        if scores.shape != golden["scores"].shape or not np.isfinite(scores).all():
            raise EngineError("golden scores: as many finite scores as golden rows are needed")
        difference = float(np.abs(scores - golden["scores"]).max())
        if difference > tolerance:
            raise EngineError(f"golden scores differ by {difference:.2g} on {self._provider}, allowed {tolerance:.2g}")
        return difference

    def warm_up(self, batch_sizes: Sequence[int], candidates: int = 200) -> None:
        """Run both graphs on empty histories of each batch size, so that no request pays for a first run.

        Raises:
            EngineError: a run failed.
        """
        sequence = self._bundle.manifest.sequence
        for size in batch_sizes:
            shapes = {name: (size, sequence.length) if name in sequence.columns else (size,) for name in sequence.names}
            encoded = self.encode({name: np.zeros(shape, dtype=np.int64) for name, shape in shapes.items()})
            rows = np.repeat(np.arange(size, dtype=np.int64), candidates)
            self.score(encoded, np.ones(len(rows), dtype=np.int64), rows)

    def end_runs(self) -> None:
        """End the runs under way, from any thread: each stops before its next node and raises EngineError."""
        for options in tuple(self._running):
            options.terminate = True

    def close(self) -> None:
        """Let go of the sessions; a run that is under way keeps its own until it ends."""
        self._sessions, self._bound = {}, {}

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

    def _run(self, graph: Graph, inputs: Mapping[str, Any]) -> Outputs:  # Any: arrays, or values on the device
        session, bound = self._sessions.get(graph), self._bound.get(graph)
        if session is None:
            raise EngineError("the engine is closed")
        names, options = self._outputs[graph], onnxruntime.RunOptions()
        self._running.add(options)
        try:
            if bound is not None:
                return bound.run(inputs, options)
            return dict(zip(names, session.run(names, {**inputs, **self._tables[graph]}, options), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            if options.terminate:
                raise EngineError(f"{graph}: ended, because it took too long", was_ended=True) from error
            raise engine_error(graph, error) from error
        finally:
            self._running.discard(options)


def wants_cuda(provider: ProviderChoice) -> bool:
    """Return whether an engine with this choice would ask for CUDA here."""
    return _cuda_wanted(provider)[0]


def _session_options(threads: int) -> Any:  # Any: the package has no types
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _SILENT
    return options


def _session(name: str, content: bytes, options: Any, wants_cuda: bool) -> Any:  # Any: the package has no types
    providers: list[Any] = [(_CUDA, _CUDA_OPTIONS), _CPU] if wants_cuda else [_CPU]
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise EngineError(f"{name}: cannot be loaded: {str(error)[:300]}") from error
    session.disable_fallback()  # or a failed run would make itself a CPU session, silently
    return session


def _cuda_wanted(provider: ProviderChoice) -> tuple[bool, str]:
    """Return whether to ask for CUDA, and what stands in its way as far as one can tell."""
    if provider == "cpu":
        return False, ""
    if _CUDA not in onnxruntime.get_available_providers():
        return False, ": this build of ONNX Runtime has no CUDA"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False, ": no NVIDIA driver (libcuda.so.1) here"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it cannot find
        onnxruntime.preload_dlls()
    return True, f": {said.getvalue().strip()[:300]}" if said.getvalue() else ""


def _check_graph(
    name: str, session: Any, promised: GraphSpec, tables: Sequence[TableSpec]
) -> None:  # Any: the package has no types
    inputs = (*promised.inputs, *(TensorSpec(name=one.name, dtype=one.dtype, shape=one.shape) for one in tables))
    for side, found, specs in (
        ("input", session.get_inputs(), inputs),
        ("output", session.get_outputs(), promised.outputs),
    ):
        if sorted(node.name for node in found) != sorted(spec.name for spec in specs):
            raise EngineError(f"{name}: its {side}s are {[node.name for node in found]}, not those of the manifest")
        nodes = {node.name: node for node in found}
        for spec in specs:
            if not _keeps(nodes[spec.name], spec):
                node = nodes[spec.name]
                raise EngineError(f"{name}: {side} {spec.name} is {node.type} {node.shape}, not as in the manifest")


def _keeps(node: Any, spec: TensorSpec) -> bool:  # Any: the package has no types
    """Return whether a graph's input or output has the promised dtype and rank, and no other fixed size."""
    if node.type != _ORT_TYPES[spec.dtype] or len(node.shape) != len(spec.shape):
        return False
    return all(not isinstance(found, int) or found == size for found, size in zip(node.shape, spec.shape, strict=True))
