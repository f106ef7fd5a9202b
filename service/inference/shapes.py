"""Runs of a few fixed shapes, each with buffers of its own on the device: what a CUDA graph can replay.

A batch is padded up to the next shape. Launching a small graph kernel by kernel takes longer than its kernels; a replay
is one launch. The same code runs on the CPU without a capture; tests use that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np
import onnxruntime

from contract.bundle.context import CONTEXT, CONTEXT_ROWS
from contract.bundle.manifest import Manifest, TensorSpec
from service.inference.device import Array, Device, Value

_OF_REQUESTS: Final = frozenset({CONTEXT, CONTEXT_ROWS})
_CANDIDATES: Final = tuple(256 << step for step in range(8))  # 256 to 32,768
_GRAPH_ID: Final = "gpu_graph_id"  # of ONNX Runtime: which captured graph a run replays


class ShapedState(dict[str, Array]):
    """Outputs of `encode` on the host, which are on the device too until its buffers are written again.

    Attributes:
        size: rows of the shape that they were computed at.
        version: how often its buffers had been written.
    """

    def __init__(self, outputs: Mapping[str, Array], size: int, version: int) -> None:
        super().__init__(outputs)
        self.size, self.version = size, version


class Sessions(NamedTuple):
    """Both graphs, and their tables on the device."""

    encode: Any  # onnxruntime.InferenceSession; the package has no types
    score: Any
    encode_tables: Mapping[str, Value]
    score_tables: Mapping[str, Value]


class ShapedRuns:
    """Both graphs at fixed shapes.

    Args:
        sessions: only for this object, because captured graphs belong to a session.
        manifest: of the bundle; all dimensions but the leading ones are numbers.
        device: where they run.
        rows: numbers of rows that have a shape, each at most once.
    """

    def __init__(self, sessions: Sessions, manifest: Manifest, device: Device, rows: Sequence[int]) -> None:
        self._sessions, self._manifest, self._device = sessions, manifest, device
        self.rows = tuple(sorted(rows))
        self._encodes: dict[int, _Shaped] = {}
        self._scores: dict[tuple[int, int, int], _Shaped] = {}
        self._versions: dict[int, int] = {}
        self._lock = Lock()  # the buffers of a shape serve one run at a time

    def encode(self, inputs: Mapping[str, Array], options: Any) -> ShapedState | None:
        """Return states and explanations of a batch; None if no shape is large enough."""
        count = len(next(iter(inputs.values())))
        size = _next(self.rows, count)
        if size is None:
            return None
        with self._lock:
            shaped = self._encode_at(size)
            outputs = shaped.run({name: _padded(array, size) for name, array in inputs.items()}, options)
            self._versions[size] = version = self._versions.get(size, 0) + 1
        return ShapedState({name: array[:count] for name, array in outputs.items()}, size, version)

    def score(
        self, state: Mapping[str, Array], candidates: Array, rows: Array, options: Any, context: Mapping[str, Array]
    ) -> dict[str, Array] | None:
        """Return scores and explanations of flat candidates; None if no shape is large enough."""
        fresh = state if isinstance(state, ShapedState) else None
        size = fresh.size if fresh is not None else _next(self.rows, len(state[self._manifest.state[0]]))
        length = _next(_CANDIDATES, len(candidates))
        requests = _next(self.rows, len(context[CONTEXT_ROWS])) if context else 0
        if size is None or length is None or requests is None:
            return None
        flat = {"candidates": _padded(candidates, length), "rows": _padded(rows, length)}
        flat |= {name: _padded(array, requests) for name, array in context.items()}
        with self._lock:
            shaped = self._score_at(size, length, requests)
            if fresh is None or fresh.version != self._versions.get(size):
                self._versions[size] = self._versions.get(size, 0) + 1
                flat |= {name: _padded(state[name], size) for name in self._manifest.state}
            outputs = shaped.run(flat, options)
        return {name: array[: len(candidates)] for name, array in outputs.items()}

    def _encode_at(self, size: int) -> _Shaped:
        if size not in self._encodes:
            specs = self._manifest.encode
            self._encodes[size] = _Shaped(
                self._sessions.encode, self._sessions.encode_tables, self._empty(specs.inputs, size),
                self._empty(specs.outputs, size), len(self._encodes) + 1,
            )  # fmt: skip
        return self._encodes[size]

    def _score_at(self, size: int, length: int, requests: int) -> _Shaped:
        """Return `score` at a shape; it reads the state where `encode` of as many rows has put it."""
        place = (size, length, requests)
        if place not in self._scores:
            specs, encode = self._manifest.score, self._encode_at(size)
            state = {name: encode.outputs[name] for name in self._manifest.state}
            others = [spec for spec in specs.inputs if spec.name not in state]
            flat = self._empty([spec for spec in others if spec.name not in _OF_REQUESTS], length)
            flat |= self._empty([spec for spec in others if spec.name in _OF_REQUESTS], requests)
            self._scores[place] = _Shaped(
                self._sessions.score, self._sessions.score_tables, {**state, **flat},
                self._empty(specs.outputs, length), len(self._scores) + 1,
            )  # fmt: skip
        return self._scores[place]

    def _empty(self, specs: Sequence[TensorSpec], leading: int) -> dict[str, Value]:
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        return {spec.name: make([leading, *spec.shape[1:]], np.dtype(spec.dtype).type, self._device) for spec in specs}


def can_be_shaped(manifest: Manifest) -> bool:
    """Return whether all dimensions but the leading ones are numbers."""
    graphs = (manifest.encode, manifest.score)
    specs = [spec for graph in graphs for spec in (*graph.inputs, *graph.outputs)]
    return all(isinstance(size, int) for spec in specs for size in spec.shape[1:])


class _Shaped:
    """One graph at one shape: buffers whose addresses never change."""

    def __init__(
        self,
        session: Any,
        tables: Mapping[str, Value],
        inputs: Mapping[str, Value],
        outputs: Mapping[str, Value],
        number: int,
    ) -> None:
        self._session, self._number = session, number
        self.inputs, self.outputs = inputs, outputs
        self._binding = session.io_binding()
        for name, value in {**tables, **inputs}.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, arrays: Mapping[str, Array], options: Any) -> dict[str, Array]:
        """Fill these inputs, run, and return copies of the outputs."""
        for name, array in arrays.items():
            self.inputs[name].update_inplace(array)
        options.add_run_config_entry(_GRAPH_ID, str(self._number))
        self._session.run_with_iobinding(self._binding, options)
        return {name: np.array(value.numpy()) for name, value in self.outputs.items()}


def _next(sizes: Sequence[int], count: int) -> int | None:
    """Return the smallest size that is large enough."""
    place = bisect_left(sizes, count)
    return sizes[place] if place < len(sizes) else None


def _padded(array: Array, size: int) -> Array:
    """Return an array with zeros behind it: padding items, the unknown user, candidates of the first row."""
    if len(array) == size:
        return np.ascontiguousarray(array)
    padded = np.zeros((size, *array.shape[1:]), dtype=array.dtype)
    padded[: len(array)] = array
    return padded
