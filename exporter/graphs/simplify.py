"""Removes from an exported graph what a runtime would compute again in every call: same numbers, fewer nodes.

torch's own optimiser is not used: it takes `x + 1e-9` for `x + 0`, because its patterns match constants to 1e-8, and
the epsilon that keeps an empty history from dividing by zero is removed. No rule here compares one float with another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import pattern, rewrite
from onnxscript.rewriter.rules import common as rules

_PASSES: Final = 3  # one round's folding enables the patterns of the next
_FOLD_BYTES: Final = 1 << 30  # including whole item tables
_MOVES: Final = frozenset({"Concat", "Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
_RECURRENT: Final = {"GRU": (5,), "LSTM": (5, 6)}  # places of the initial states among the inputs


def simplified(model: onnx_ir.Model) -> onnx.ModelProto:
    """Fold constants, drop structure without effect, and use the simpler of two equal operators; the model changes."""
    common.InlinePass()(model)
    for _ in range(_PASSES):
        fold_constants(model, onnx_shape_inference=True, input_size_limit=_FOLD_BYTES, output_size_limit=_FOLD_BYTES)
        rewrite(model, _RULES)
        _drop_zero_starts(model)
        common.RemoveUnusedNodesPass()(model)
    for last in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        last(model)
    return onnx_ir.to_proto(model)


def _nd(op: Any, table: Any, indices: Any) -> Any:  # Any: the pattern language is untyped
    return op.GatherND(table, op.Unsqueeze(indices, [-1]), batch_dims=0)


def _plain(op: Any, table: Any, indices: Any) -> Any:  # Any: the pattern language is untyped
    return op.Gather(table, indices, axis=0)


_RULES: Final = (
    rules.cast_cast_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.materialize_reshape_shape_rule,
    rules.reshape_reshape_rule,
    rules.squeeze_reshape_1d_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.one_reshape_matmul_reshape_rule,
    rules.two_reshapes_matmul_reshape_rule,
    pattern.RewriteRule(_nd, _plain, name="GatherOfRows"),  # `state[rows]`: whole rows, so the plain operator does
)


def _drop_zero_starts(model: onnx_ir.Model) -> None:
    """Remove initial states of zeros, which are an operator's default, and the shapes computed for them."""
    for node in model.graph:
        for place in _RECURRENT.get(node.op_type, ()):
            if place < len(node.inputs) and node.inputs[place] is not None and _is_zero(node.inputs[place]):
                node.replace_input_with(place, None)


def _is_zero(value: onnx_ir.Value | None) -> bool:
    """Return whether a value consists of only zeros, rearranged."""
    leaves = list(_leaves(value))
    return bool(leaves) and all(leaf is not None and not np.any(leaf) for leaf in leaves)


def _leaves(value: onnx_ir.Value | None) -> Iterator[np.ndarray[Any, Any] | None]:  # Any: the type of the constant
    node = value.producer() if value is not None else None
    if value is None or (node is not None and node.op_type not in {*_MOVES, "Constant", "ConstantOfShape"}):
        yield None
    elif node is None or node.op_type == "Constant":
        yield value.const_value.numpy() if value.const_value is not None else None
    elif node.op_type == "ConstantOfShape":
        fill = node.attributes.get("value")
        yield fill.as_tensor().numpy() if fill is not None else np.zeros(1)
    else:
        moved = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        for one in moved:
            yield from _leaves(one)
