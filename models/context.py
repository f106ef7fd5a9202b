"""The context of a request in a model: one vector, added to the user's vector between `encode` and `score`.

    u' = u + sum_f E_f[code_f]

The state that `encode` gives does not depend on the context, so a server may keep it while hour and device change. The
tables start at zero: an untrained context changes no score. In training each input is hidden from a random share of the
rows, so that row 0, "not known", is learnt too. Symbols: R requests, F inputs, d width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contract.bundle.context import ContextSpec


class ContextVectors(nn.Module):
    """Maps codes of inputs to vectors.

    Args:
        specs: of the inputs.
        width: d.
        hidden: share of the rows from which each input is hidden in training.
    """

    def __init__(self, specs: Sequence[ContextSpec], width: int, hidden: float) -> None:
        super().__init__()
        self.specs, self.hidden = tuple(specs), hidden
        self.tables = nn.ModuleList(nn.Embedding(spec.cardinality, width) for spec in specs)
        for table in self.tables:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes (R, F) to vectors (R, d)."""
        if self.training and self.hidden:
            codes = codes.masked_fill(torch.rand(codes.shape, device=codes.device) < self.hidden, 0)
        vectors = [table(codes[:, place]) for place, table in enumerate(self.tables)]
        return torch.stack(vectors).sum(dim=0)
