"""One feature of items as vectors. Symbols: I items, d width."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from models.base import DatasetFacts


def field_table(size: int, width: int, std: float) -> nn.Embedding:
    """Return a table (size, width), normal with this deviation; the row of 0, unknown, is zero and stays so."""
    table = nn.Embedding(size, width, padding_idx=0)
    nn.init.normal_(table.weight, std=std)
    with torch.no_grad():
        table.weight[0] = 0.0
    return table


class ItemFeature(nn.Module):
    """One feature of items, by item index: the mean of the vectors of its values, unknown ones left out.

    Raises:
        ValueError: the data set has no feature of this name.
    """

    from_data: ClassVar[tuple[str, ...]] = ("codes",)

    def __init__(self, facts: DatasetFacts, name: str, width: int, std: float) -> None:
        super().__init__()
        if name not in facts.item_features:
            there = ", ".join(sorted(facts.item_features)) or "none"
            raise ValueError(f"side: no item feature named {name!r}; there are {there}")
        self.name = name
        self.table = field_table(facts.cardinalities[name], width, std)
        self.register_buffer("codes", torch.from_numpy(facts.item_features[name]).to(torch.int64))

    codes: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """Map item indices (...) to vectors (..., width); an item without a value has zeros."""
        return self.vectors(self.codes[ids])

    def vectors(self, values: Tensor) -> Tensor:
        """Map the codes of values (..., values) to vectors (..., width); without a value above 0 they are zeros."""
        real = (values > 0).to(self.table.weight.dtype)[..., None]
        return torch.as_tensor((self.table(values) * real).sum(dim=-2) / real.sum(dim=-2).clamp_min(1.0))
