"""A model's two functions as modules with positional tensors, for the tracer.

Symbols: B rows, M flat candidates, R requests, F inputs of the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from contract.bundle.context import CONTEXT
from exporter.errors import ExportError
from exporter.rows import CONTEXT_INPUTS, FLAT_INPUTS
from models.base import SequentialRecommender, Tensors

SCORES: Final = "scores"
_ALLOWED: Final = (torch.float32, torch.int64)


class Names(NamedTuple):
    """Names of the graphs' tensors; state names are those of the graphs, `state_keys` those of the model."""

    inputs: tuple[str, ...]
    state_keys: tuple[str, ...]
    state: tuple[str, ...]
    encode_explanation: tuple[str, ...]
    score_explanation: tuple[str, ...]
    context: tuple[str, ...] = ()  # further inputs of `score`, CONTEXT_INPUTS where the model reads a context


class EncodeGraph(nn.Module):
    """`encode` from positional inputs, in the order of `SequenceSpec.names`, to states and then explanations."""

    def __init__(self, model: SequentialRecommender, names: Names) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Return states and explanations, each with leading dimension B."""
        encoded = self.model.encode(dict(zip(self.names.inputs, arrays, strict=True)))
        outputs = [encoded.state[key] for key in self.names.state_keys]
        outputs += [encoded.explanation[name] for name in self.names.encode_explanation]
        # A tensor that is passed through would be one value with two names, and the input would lose its name.
        return tuple(one.clone() if any(one is array for array in arrays) else one for one in outputs)


class ScoreGraph(nn.Module):
    """`score` from positional states, candidates (M,) and rows (M,) to scores (M,) and then explanations.

    A model with a context takes its codes (R, F) and the state's row of each request (R,) as well.
    """

    def __init__(self, model: SequentialRecommender, names: Names) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Return scores and explanations, each with leading dimension M."""
        count = len(self.names.state_keys)
        state, (candidates, rows, *context) = arrays[:count], arrays[count:]
        states = in_context(self.model, dict(zip(self.names.state_keys, state, strict=True)), *context)
        scored = self.model.score(states, candidates, rows)
        return (scored.scores, *(scored.explanation[name] for name in self.names.score_explanation))


def in_context(model: SequentialRecommender, state: Tensors, *context: Tensor) -> Tensors:
    """Return the state of each request, in its context: codes (R, F) and rows of the state (R,); or the state as it is.

    Several requests of one user share a row of the state, each in its own context.
    """
    if not context:
        return state
    codes, rows = context
    return model.in_context({name: tensor[rows] for name, tensor in state.items()}, {CONTEXT: codes})


def name_tensors(
    model: SequentialRecommender, inputs: Tensors, candidates: Tensor, rows: Tensor, context: Sequence[Tensor] = ()
) -> Names:
    """Run the model once and name the inputs and outputs of the two graphs.

    A state tensor with the name of an input (for example, of a model that keeps the items it read) gets the suffix
    `_state`, because names in a graph are unique.

    Raises:
        ExportError: a tensor has a dtype or a leading dimension that the contract does not allow, or a name twice.
    """
    with torch.no_grad():
        encoded = model.encode(inputs)
        scored = model.score(in_context(model, encoded.state, *context), candidates, rows)
    asked = CONTEXT_INPUTS if context else ()
    taken = {*inputs, *FLAT_INPUTS, *asked, SCORES}
    state = tuple(f"{key}_state" if key in taken else key for key in encoded.state)
    outputs = (*inputs, *FLAT_INPUTS, *asked, SCORES, *state, *encoded.explanation, *scored.explanation)
    if twice := {name for name in outputs if outputs.count(name) > 1}:
        raise ExportError(f"the model uses the name {min(twice)!r} for two tensors")
    if not state:
        raise ExportError("the model's encode returns no state: a graph needs at least one tensor")
    row_count = len(next(iter(inputs.values())))
    _check("encode", [*encoded.state.items(), *encoded.explanation.items()], row_count)
    _check("score", [(SCORES, scored.scores), *scored.explanation.items()], len(candidates))
    if scored.scores.dim() != 1 or scored.scores.dtype != torch.float32:
        raise ExportError(f"scores are {scored.scores.dtype} {tuple(scored.scores.shape)}, expected float32 (M,)")
    explained = tuple(encoded.explanation), tuple(scored.explanation)
    return Names(tuple(inputs), tuple(encoded.state), state, *explained, asked)


def _check(graph: str, outputs: Sequence[tuple[str, Tensor]], leading: int) -> None:
    for name, tensor in outputs:
        if tensor.dtype not in _ALLOWED:
            raise ExportError(f"{graph}: {name} is {tensor.dtype}; the contract allows float32 and int64")
        if tensor.dim() == 0 or tensor.shape[0] != leading:
            raise ExportError(f"{graph}: {name} has shape {tuple(tensor.shape)}, expected {leading} rows")
