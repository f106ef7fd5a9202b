"""Large tables leave the graphs: one array per table, which both graphs take as an input.

An initializer is copied into each session that has it. An input is not: the service maps the table's file and gives
the same memory to both graphs, so a catalogue is in memory once (ADR 0148).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from contract.bundle.manifest import MAX_TABLES, digest_of, table_name

# smaller ones stay in the graphs, so that a bundle without tables has the older format
MIN_TABLE_BYTES: Final = 1_048_576

_TYPES: Final = {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}

Table = NDArray[Any]  # Any: float32 or int64
Tables = Mapping[str, Table]


class TableBook:
    """The tables of one model: the same values in two graphs are one table.

    Args:
        min_bytes: of a table that leaves its graph.
    """

    def __init__(self, min_bytes: int = MIN_TABLE_BYTES) -> None:
        self._min_bytes = min_bytes
        self._names: dict[str, str] = {}  # by digest of type, shape and values
        self.tables: dict[str, Table] = {}

    def take(self, graph: onnx.GraphProto) -> tuple[str, ...]:
        """Turn a graph's largest tables into inputs after its other inputs; return their names in that order."""
        large = [tensor for tensor in graph.initializer if self._is_table(graph, tensor)]
        for tensor in sorted(large, key=_bytes, reverse=True)[: MAX_TABLES - len(self.tables)]:
            name = self._name_of(onnx.numpy_helper.to_array(tensor))
            _rename(graph, tensor.name, name)
            graph.initializer.remove(tensor)
        taken = sorted({name for node in graph.node for name in node.input} & set(self.tables))
        graph.input.extend(_input(name, self.tables[name]) for name in taken)
        return tuple(taken)

    def _is_table(self, graph: onnx.GraphProto, tensor: onnx.TensorProto) -> bool:
        return tensor.data_type in _TYPES and _bytes(tensor) >= self._min_bytes and _only_gathered(graph, tensor.name)

    def _name_of(self, table: Table) -> str:
        digest = digest_of(f"{table.dtype} {table.shape} ".encode() + table.tobytes())
        if digest not in self._names:
            self._names[digest] = name = table_name(len(self._names))
            self.tables[name] = table
        return self._names[digest]


def _bytes(tensor: onnx.TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64)) * (8 if tensor.data_type == onnx.TensorProto.INT64 else 4)


def _only_gathered(graph: onnx.GraphProto, name: str) -> bool:
    """Return whether all readers of a tensor take whole rows of it; other readers may need it as a constant."""
    if name in {value.name for value in graph.output} or name in set(_read_below(graph)):
        return False
    readers = [(node, place) for node in graph.node for place, read in enumerate(node.input) if read == name]
    return bool(readers) and all(node.op_type == "Gather" and not place and _axis(node) == 0 for node, place in readers)


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)


def _read_below(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield names that subgraphs read."""
    for node in graph.node:
        for attribute in node.attribute:
            for below in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from (name for inner in below.node for name in inner.input)
                yield from _read_below(below)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def _input(name: str, table: Table) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(table.dtype), table.shape)
