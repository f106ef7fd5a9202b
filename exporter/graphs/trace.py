"""From the two modules to two ONNX files: current (dynamo) exporter, folded, stripped, self-contained.

B and M are symbolic, all else is fixed. Nothing is written here: the caller gets the bytes.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import onnx
import torch
from torch import Tensor, nn

from contract.bundle.manifest import GraphSpec, TensorSpec
from contract.progress import Progress
from exporter.errors import ExportError
from exporter.graphs.modules import SCORES, EncodeGraph, Names, ScoreGraph, name_tensors
from exporter.graphs.tables import TableBook, Tables
from exporter.rows import FLAT_INPUTS, Rows
from models.base import SequentialRecommender, Tensors

OPSET: Final = 20  # the newest that the exporter of torch 2.13 writes by default; ONNX Runtime 1.31 reads it
_DTYPES: Final = {torch.int64: "int64", torch.float32: "float32"}
_MAX_PROTO_BYTES: Final = 2**31 - 1


class TracedGraph(NamedTuple):
    """One ONNX file and its signature."""

    content: bytes
    spec: GraphSpec  # without the tables
    nodes: int
    tables: tuple[str, ...] = ()  # inputs after those of `spec`


class Traced(NamedTuple):
    """Both graphs of a model."""

    encode: TracedGraph
    score: TracedGraph
    names: Names
    tables: Tables


def trace(model: SequentialRecommender, sample: Rows, book: TableBook | None = None) -> Traced:
    """Export a model's two graphs.

    Args:
        model: in evaluation mode, on the CPU.
        sample: a batch with at least two rows and two candidates, so that neither dimension is taken for a constant.
        book: of the tables that leave the graphs; graphs that are traced with it later add theirs (exporter/tables.py).

    Raises:
        ExportError: the model breaks the contract, or cannot be exported with B and M dynamic.
    """
    inputs = tensors_of(sample)
    candidates, rows = torch.from_numpy(sample.candidates), torch.from_numpy(sample.rows)
    context = () if sample.requests is None else sample.requests.tensors
    names = name_tensors(model, inputs, candidates, rows, context)
    encoder, scorer = EncodeGraph(model, names), ScoreGraph(model, names)
    with torch.no_grad():
        encoded = encoder(*inputs.values())
    state = encoded[: len(names.state)]
    book = TableBook() if book is None else book
    with Progress("tracing the graphs", 2) as progress:
        encode = trace_graph(
            "encode", encoder, tuple(inputs.values()), ["B"] * len(inputs), names.inputs,
            (*names.state, *names.encode_explanation), "B", book,
        )  # fmt: skip
        progress.advance(1, "encode")
        score = trace_graph(
            "score", scorer, (*state, candidates, rows, *context),
            [*["B"] * len(state), "M", "M", *["R"] * len(context)],
            (*names.state, *FLAT_INPUTS, *names.context), (SCORES, *names.score_explanation), "M", book,
        )  # fmt: skip
        progress.advance(1, "score")
    return Traced(encode, score, names, book.tables)


def tensors_of(sample: Rows) -> Tensors:
    """Return the inputs of a batch as tensors."""
    return {name: torch.from_numpy(values) for name, values in sample.inputs.items()}


def trace_graph(
    graph: str,
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    leading: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    symbol: str,
    book: TableBook,
) -> TracedGraph:
    """Export one module.

    Args:
        graph: its name in errors.
        module: its `forward` takes `arrays` in order.
        arguments: to trace with.
        leading: the symbol of each argument's first dimension: B, M, C or R.
        inputs: names.
        outputs: names.
        symbol: of every output's first dimension.
        book: where its large tables go.

    Raises:
        ExportError: it cannot be exported with these dimensions dynamic.
    """
    from exporter.graphs.simplify import simplified  # half a second, for which no refusal should wait

    dimensions = {name: torch.export.Dim(name) for name in ("B", "M", "C", "R")}
    with torch.no_grad(), _quiet():
        results = module(*arguments)
        try:
            program = torch.onnx.export(
                module,
                arguments,
                dynamo=True,
                dynamic_shapes={"arrays": tuple({0: dimensions[name]} for name in leading)},
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
                optimize=False,  # see simplify.py
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"{graph}: cannot be exported: {_last_line(error)}") from error
        if program is None:
            raise ExportError(f"{graph}: the exporter returned nothing")
        proto = simplified(program.model)
    input_specs = [_spec(name, tensor, first) for name, tensor, first in zip(inputs, arguments, leading, strict=True)]
    output_specs = [_spec(name, tensor, symbol) for name, tensor in zip(outputs, results, strict=True)]
    spec = GraphSpec(inputs=tuple(input_specs), outputs=tuple(output_specs))
    tables = book.take(proto.graph)
    _finish(graph, proto, spec, tables)
    return TracedGraph(proto.SerializeToString(deterministic=True), spec, len(proto.graph.node), tables)


def _spec(name: str, tensor: Tensor, leading: str) -> TensorSpec:
    dtype = _DTYPES[tensor.dtype]
    # pydantic checks the literal; the type checker cannot follow a dictionary of strings
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": (leading, *tensor.shape[1:])})


def _finish(graph: str, proto: onnx.ModelProto, spec: GraphSpec, tables: Sequence[str]) -> None:
    """Check an exported graph against the expected one, and keep only what a runtime needs.

    Node metadata contains stack traces with paths of this machine, and is larger than a small model.
    """
    for side, values, specs in (
        ("input", proto.graph.input[: len(proto.graph.input) - len(tables)], spec.inputs),
        ("output", proto.graph.output, spec.outputs),
    ):
        if [value.name for value in values] != [one.name for one in specs]:
            raise ExportError(f"{graph}: its {side}s became {[value.name for value in values]}")
        for value, one in zip(values, specs, strict=True):
            _settle(graph, value, one)
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in proto.graph.initializer):
        raise ExportError(f"{graph}: weights left the file")
    if foreign := {node.domain for node in proto.graph.node} - {""}:
        raise ExportError(f"{graph}: needs operators of {min(foreign)}, and a bundle may use standard ones only")
    del proto.graph.value_info[:], proto.metadata_props[:], proto.graph.metadata_props[:]
    proto.doc_string = proto.graph.doc_string = ""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    if proto.ByteSize() > _MAX_PROTO_BYTES:
        raise ExportError(f"{graph}: {proto.ByteSize()} bytes; a single-file graph is limited to 2 GiB")
    onnx.checker.check_model(proto, full_check=True)


def _settle(graph: str, value: onnx.ValueInfoProto, spec: TensorSpec) -> None:
    """Check that the leading dimension is still symbolic, and write all dimensions as in the signature."""
    sizes = value.type.tensor_type.shape.dim
    if len(sizes) != len(spec.shape) or sizes[0].HasField("dim_value"):
        raise ExportError(f"{graph}: {spec.name} does not keep {spec.shape[0]} dynamic")
    for size, promised in zip(sizes, spec.shape, strict=True):
        if isinstance(promised, int):
            if size.HasField("dim_value") and size.dim_value != promised:
                raise ExportError(f"{graph}: {spec.name} has size {size.dim_value}, expected {promised}")
            size.dim_value = promised
        else:
            size.dim_param = promised


def _last_line(error: BaseException) -> str:
    """Return the line of the first cause that describes the problem; the exporter's message is a page long."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return (lines[0] if lines else type(cause).__name__)[:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's exporter: its progress, its logs, its deprecation warnings, and the graphs that it prints."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
