"""Errors of a run, as one type: ONNX Runtime's exceptions have no common base."""

from __future__ import annotations

from typing import Final

# After these a process's CUDA context answers every call with the same error; running out of memory is not of the kind.
_FATAL_CUDA: Final = (
    "illegal memory access", "misaligned address", "illegal instruction", "device-side assert",
    "unspecified launch failure", "hardware stack error", "invalid program counter", "CUBLAS_STATUS_EXECUTION_FAILED",
)  # fmt: skip


class EngineError(RuntimeError):
    """A graph could not be loaded, does not keep its promise, or failed on an input.

    Attributes:
        fatal: no later run of this process can succeed on this provider.
        was_ended: the run took too long and `OnnxEngine.end_runs` ended it.
    """

    def __init__(self, message: str, *, fatal: bool = False, was_ended: bool = False) -> None:
        super().__init__(message)
        self.fatal, self.was_ended = fatal, was_ended


def engine_error(graph: str, error: Exception) -> EngineError:
    """Return the fault of a graph for an exception of ONNX Runtime."""
    message = str(error)
    return EngineError(f"{graph}: {message[:300]}", fatal=any(sign in message for sign in _FATAL_CUDA))
