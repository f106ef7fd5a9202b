from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from exporter.errors import ExportError
from exporter.graphs.modules import name_tensors
from exporter.graphs.trace import Traced, TracedGraph, tensors_of, trace
from exporter.parity.verify import golden_scores, verify
from models.base import Encoded, Scored, Tensors
from tests.unit.exporter.small_models import (
    ITEMS,
    LENGTH,
    WIDTH,
    Branches,
    FixedBatch,
    KeepsItems,
    MindsNeighbours,
    MindsPadding,
    Plain,
    Recurrent,
    TinyEpsilon,
    WholeTable,
    maker,
    sample,
)

pytestmark = pytest.mark.onnx


def exported(model: Plain) -> Traced:
    return trace(model.eval(), sample(model))


def operators(graph: TracedGraph) -> list[str]:
    return sorted(node.op_type for node in onnx.load_from_string(graph.content).graph.node)


def names_of(model: Plain) -> object:
    rows = sample(model)
    return name_tensors(model, tensors_of(rows), torch.from_numpy(rows.candidates), torch.from_numpy(rows.rows))


@pytest.fixture(scope="module")
def plain() -> tuple[Plain, Traced]:
    model = Plain()
    return model, exported(model)


def test_epsilon_too_small_for_the_exporters_own_optimiser_survives() -> None:
    model = TinyEpsilon()
    report = verify(model, exported(model), maker(model), LENGTH)
    assert all(np.isfinite(parity.worst) for parity in report)


def test_whole_item_table_is_computed_once_at_export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("contract.progress.PLAIN_SECONDS", 0.0)
    model = WholeTable()
    traced = exported(model)
    shown = [line.split("  ")[:3] for line in capsys.readouterr().err.splitlines()]
    assert shown == [["tracing the graphs", "50%", "encode"], ["tracing the graphs", "100%", "score"]]
    assert operators(traced.score) == ["Gather", "Gather", "Mul", "ReduceSum"]
    verify(model, traced, maker(model), LENGTH)


@pytest.mark.slow
def test_recurrent_layer_is_one_operator_that_starts_from_nothing() -> None:
    model = Recurrent()
    traced = exported(model)
    proto = onnx.load_from_string(traced.encode.content)
    (gru,) = [node for node in proto.graph.node if node.op_type == "GRU"]
    assert len([name for name in gru.input if name]) == 4  # X, W, R, B and no initial state
    assert "Expand" not in operators(traced.encode)
    verify(model, traced, maker(model), LENGTH)


def test_state_that_is_called_like_an_input_gets_a_name_of_its_own() -> None:
    model = KeepsItems()
    traced = exported(model)
    assert traced.names.state == ("items_state",)
    assert [spec.name for spec in traced.encode.spec.outputs] == ["items_state", "count"]
    assert traced.encode.spec.outputs[0].dtype == "int64"
    assert [spec.name for spec in traced.score.spec.inputs] == ["items_state", "candidates", "rows"]
    assert [spec.shape for spec in traced.score.spec.outputs] == [("M",), ("M",)]
    verify(model, traced, maker(model), LENGTH)


def test_both_dimensions_stay_symbolic_in_the_file(plain: tuple[Plain, Traced]) -> None:
    _, traced = plain
    for graph in (traced.encode, traced.score):
        proto = onnx.load_from_string(graph.content)
        for value, spec in zip(
            [*proto.graph.input, *proto.graph.output], [*graph.spec.inputs, *graph.spec.outputs], strict=True
        ):
            shape = tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim)
            assert (value.name, shape) == (spec.name, spec.shape)


def test_same_model_gives_the_same_bytes(plain: tuple[Plain, Traced]) -> None:
    model, traced = plain
    again = exported(model)
    assert (again.encode.content, again.score.content) == (traced.encode.content, traced.score.content)


def test_weights_changed_after_tracing_are_found(plain: tuple[Plain, Traced]) -> None:
    _, traced = plain
    other = Plain()
    with torch.no_grad():
        other.items.weight.add_(0.01)
    with pytest.raises(ExportError, match="differs by"):
        verify(other, traced, maker(other), LENGTH)
    with pytest.raises(ExportError, match=r"golden: user differs by .* allowed 0\.0001"):
        golden_scores(other, traced, maker(other).make([1, LENGTH], [5, 5]))


def test_scores_that_are_not_finite_are_refused(plain: tuple[Plain, Traced]) -> None:
    model = Plain()
    with torch.no_grad():
        model.items.weight[1:] = torch.inf
    traced = exported(model)
    with pytest.raises(ExportError, match="not finite"):
        verify(model, traced, maker(model), LENGTH)


def test_model_whose_scores_depend_on_other_rows_is_refused() -> None:
    model = MindsNeighbours()
    with pytest.raises(ExportError, match="row by itself"):
        verify(model, exported(model), maker(model), LENGTH)


def test_model_that_reads_padded_slots_is_refused() -> None:
    model = MindsPadding()
    with pytest.raises(ExportError, match="junk in padding"):
        verify(model, exported(model), maker(model), LENGTH)


@pytest.mark.parametrize("model", [Branches(), FixedBatch()], ids=["branch on a value", "fixed batch"])
def test_what_cannot_be_exported_is_refused_in_one_line(model: Plain, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError) as caught:
        exported(model)
    assert str(caught.value).startswith("encode: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


class _Wrong(Plain):
    """Returns what the test asks for."""

    def __init__(self, state: Tensors | None = None, explanation: Tensors | None = None) -> None:
        super().__init__()
        self.state, self.explanation = state, explanation or {}
        self.scores: Tensor | None = None

    def encode(self, inputs: Tensors) -> Encoded:
        found = super().encode(inputs)
        return Encoded(found.state if self.state is None else self.state, self.explanation)

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        return Scored(torch.zeros(len(candidates)) if self.scores is None else self.scores, {})


@pytest.mark.parametrize(
    ("state", "explanation", "reason"),
    [
        ({}, {}, "no state"),
        ({"user": torch.zeros(3, WIDTH, dtype=torch.bool)}, {}, "user is torch.bool"),
        ({"user": torch.zeros(3, WIDTH, dtype=torch.float64)}, {}, "user is torch.float64"),
        ({"user": torch.zeros(1, WIDTH)}, {}, r"shape \(1, 4\), expected 3 rows"),
        ({"user": torch.tensor(1.0)}, {}, r"shape \(\)"),
        ({"user": torch.zeros(3, WIDTH)}, {"user": torch.zeros(3)}, "name 'user' for two tensors"),
        ({"user": torch.zeros(3, WIDTH)}, {"rows": torch.zeros(3)}, "name 'rows' for two tensors"),
    ],
)
def test_outputs_that_break_the_contract_are_refused(state: Tensors, explanation: Tensors, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        names_of(_Wrong(state, explanation))


@pytest.mark.parametrize("scores", [torch.zeros(7, 1), torch.zeros(7, dtype=torch.int64)])
def test_scores_must_be_one_float_per_candidate(scores: Tensor) -> None:
    model = _Wrong()
    model.scores = scores
    with pytest.raises(ExportError, match="scores"):
        names_of(model)


def test_vocabulary_of_the_small_models_is_what_the_rows_draw_from() -> None:
    rows = maker(Plain()).make([LENGTH] * 50, [20] * 50)
    assert set(np.unique(rows.candidates)) == set(range(1, ITEMS + 1))
