"""ONNX Runtime's sessions: their options, the provider they truly run on, and whether a graph keeps its promise."""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Sequence
from typing import Any, Final, Literal

import onnxruntime

from contract.bundle.manifest import GraphSpec, TableSpec, TensorSpec
from service.inference.faults import EngineError

ProviderChoice = Literal["auto", "cpu", "cuda"]

_ORT_TYPES: Final = {"int64": "tensor(int64)", "float32": "tensor(float)"}
_CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
# Small models: no growth by doubling, no minutes of convolution search, and float32 means float32, as on the CPU.
_CUDA_OPTIONS: Final = {
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
}
SILENT: Final = 4  # ONNX Runtime logs to stderr in a format of its own; its exceptions say the same


def wants_cuda(provider: ProviderChoice) -> bool:
    """Return whether an engine with this choice would ask for CUDA here."""
    return cuda_wanted(provider)[0]


def session_options(threads: int) -> Any:  # Any: the package has no types
    """Return options of a session whose runs have so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.log_severity_level = SILENT
    return options


def make_session(
    name: str, content: bytes, options: Any, wants_cuda: bool, *, captures: bool = False
) -> Any:  # Any: the package has no types
    """Return a session of a serialised graph; `captures` lets CUDA record its runs and replay them.

    Raises:
        EngineError: the graph cannot be loaded.
    """
    cuda = {**_CUDA_OPTIONS, "enable_cuda_graph": "1"} if captures else _CUDA_OPTIONS
    providers: list[Any] = [(CUDA, cuda), _CPU] if wants_cuda else [_CPU]
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise EngineError(f"{name}: cannot be loaded: {str(error)[:300]}") from error
    session.disable_fallback()  # or a failed run would make itself a CPU session, silently
    return session


def cuda_wanted(provider: ProviderChoice) -> tuple[bool, str]:
    """Return whether to request CUDA, and the known obstacle if not."""
    if provider == "cpu":
        return False, ""
    if CUDA not in onnxruntime.get_available_providers():
        return False, ": this build of ONNX Runtime has no CUDA"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False, ": no NVIDIA driver (libcuda.so.1) here"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it cannot find
        onnxruntime.preload_dlls()
    return True, f": {said.getvalue().strip()[:300]}" if said.getvalue() else ""


def check_graph(
    name: str, session: Any, promised: GraphSpec, tables: Sequence[TableSpec]
) -> None:  # Any: the package has no types
    """Compare a session's inputs and outputs with those that the manifest promises.

    Raises:
        EngineError: they differ, or have names that are not UTF-8.
    """
    try:
        _compare(name, session, promised, tables)
    except UnicodeDecodeError as error:  # ONNX Runtime decodes a name when it is read
        raise EngineError(f"{name}: the name of an input, an output or an axis is not UTF-8") from error


def _compare(name: str, session: Any, promised: GraphSpec, tables: Sequence[TableSpec]) -> None:
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
