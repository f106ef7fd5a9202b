"""What three models or more are made of. Symbols: I items, d width."""

from __future__ import annotations

import torch
from torch import nn

from models.base import DatasetFacts, log_popularity


def item_table(facts: DatasetFacts, width: int, std: float) -> nn.Embedding:
    """Return a table (I+1, d), normal with this deviation; the row of padding is zero and stays so."""
    table = nn.Embedding(facts.item_count + 1, width, padding_idx=0)
    nn.init.normal_(table.weight, std=std)
    with torch.no_grad():
        table.weight[0] = 0.0
    return table


def item_bias(facts: DatasetFacts, enabled: bool, shift: float = 0.0) -> nn.Parameter:
    """Return a bias by item (I+1,) that starts at log popularity plus `shift`; zeros that do not learn where disabled.

    On data with few interactions per user this start is worth more than most of an architecture, so every trained model
    offers it.
    """
    start = log_popularity(facts.item_popularity) + shift if enabled else torch.zeros(facts.item_count + 1)
    return nn.Parameter(start, requires_grad=enabled)
