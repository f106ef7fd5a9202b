"""Runs of a graph by IO binding: its tables are in the device's memory once, and what it computes stays there.

The same code runs on the CPU, where "the device" is ordinary memory; tests use that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.inference.faults import engine_error

Array = NDArray[Any]  # Any: int64 or float32, by the manifest
Device = Literal["cpu", "cuda"]
Value = Any  # onnxruntime.OrtValue; the package has no types

_FIRST: Final = 0  # number of the device


class OnDevice(Mapping[str, Array]):
    """Outputs of a run in the device's memory. Reading one copies it to the host, once.

    Args:
        values: by name.
    """

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values
        self._read: dict[str, Array] = {}

    def value(self, name: str) -> Value:
        """Return an output where it is."""
        return self._values[name]

    def leading(self, name: str) -> int:
        """Return the size of an output's first dimension, without reading it."""
        return int(self._values[name].shape()[0])

    def __getitem__(self, name: str) -> Array:
        """Return an output as an array of the host.

        Raises:
            EngineError: the device fails.
        """
        if name not in self._read:
            try:
                self._read[name] = self._values[name].numpy()
            except Exception as error:  # ONNX Runtime's exceptions share no base of their own
                raise engine_error(name, error) from error
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of outputs."""
        return len(self._values)


class BoundGraph:
    """A graph whose inputs and outputs are bound to a device.

    Args:
        session: an onnxruntime.InferenceSession.
        device: where it runs.
        outputs: names.
        tables: by name, already on the device.
    """

    def __init__(self, session: Any, device: Device, outputs: Sequence[str], tables: Mapping[str, Value]) -> None:
        self._session, self._device, self._outputs, self.tables = session, device, outputs, tables

    def run(self, inputs: Mapping[str, Array | Value], options: Any) -> OnDevice:
        """Return the outputs of a run, on the device; `inputs` are arrays of the host or values on the device."""
        binding = self._session.io_binding()
        for name, table in self.tables.items():
            binding.bind_ortvalue_input(name, table)
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, _placed(value, self._device) if isinstance(value, np.ndarray) else value)
        for name in self._outputs:
            binding.bind_output(name, self._device, _FIRST)
        self._session.run_with_iobinding(binding, options)
        return OnDevice(dict(zip(self._outputs, binding.get_outputs(), strict=True)))


def place(arrays: Mapping[str, Array], device: Device) -> dict[str, Value]:
    """Return arrays on the device; on the CPU they are the same memory."""
    return {name: _placed(array, device) for name, array in arrays.items()}


def leading(outputs: Mapping[str, Array], name: str) -> int:
    """Return the size of an output's first dimension."""
    return outputs.leading(name) if isinstance(outputs, OnDevice) else len(outputs[name])


def _placed(array: Array, device: Device) -> Value:
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device, _FIRST)
