"""Weights of yesterday in a model of today, whose tables have rows for new users, items and feature values.

Vocabularies append, so the first rows of a table are yesterday's. A new row starts as in a fresh model: small and
random in a table, log popularity in the item bias; or, for items, as the substitute for a missing id, if the model has
learnt one (docs/adr/0232-warm-start.md has the alternatives).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contract.command_line import CommandError
from models.base import SequentialRecommender
from models.parts.new_items import IdPart


class GrowthError(CommandError, ValueError):
    """The weights do not fit into the model; the message names the tensor."""


@torch.no_grad()
def grow(model: SequentialRecommender, weights: dict[str, Tensor], items: int) -> None:
    """Replace the weights of a fresh model by older ones; rows beyond the older tables stay fresh.

    Args:
        model: built from today's facts, with the config of the older one; in any mode.
        weights: the older model's state_dict.
        items: number of items that the older model knows.

    Raises:
        GrowthError: the config differs, or a table became smaller.
    """
    computed = data_buffers(model)
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in computed}
    missing = sorted(state.keys() ^ (weights.keys() - computed))
    if missing:
        raise GrowthError(f"{missing[0]}: only one of both models has it: their configs differ")
    for name, tensor in state.items():
        _fill(name, tensor, weights[name])
    _substitute(model, items)
    model.train()  # a model that computes item vectors from its weights does so when training ends
    model.eval()


def _substitute(model: SequentialRecommender, items: int) -> None:
    """Start the rows of items beyond the older ones as the learnt substitute for an id, where there is one."""
    parts = [part for part in model.modules() if isinstance(part, IdPart)]
    new = [part.is_new.clone() for part in parts]
    for part in parts:
        part.is_new.copy_(torch.arange(len(part.is_new)) > items)
    model.settle()
    for part, is_new in zip(parts, new, strict=True):
        part.is_new.copy_(is_new)


def data_buffers(model: nn.Module) -> set[str]:
    """Return the names of the buffers that the data set determines, such as the feature codes of each item."""
    return {
        f"{place}.{name}" if place else name
        for place, module in model.named_modules()
        for name in vars(type(module)).get("from_data", ())
    }


def _fill(name: str, tensor: Tensor, older: Tensor) -> None:
    rows = len(older) if older.dim() else 0
    if tensor.shape == older.shape:
        tensor.copy_(older)
    elif tensor.shape[1:] == older.shape[1:] and len(tensor) > rows:
        tensor[:rows] = older
    else:
        raise GrowthError(f"{name}: {tuple(older.shape)} does not fit into {tuple(tensor.shape)}: the configs differ")
