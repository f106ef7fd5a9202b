"""New items, which training never met: their vectors come from their features and a learnt substitute for the id.

An item without an interaction in training has an untrained row in the item table. `IdPart` puts one learnt vector in
place of that row, and one learnt number in place of the item's bias. So that features learn to do without the id, each
training step also takes the ids of a random share of all items away, in histories and among candidates alike
(DropoutNet: Volkovs et al., NeurIPS 2017).

The bias that training learns is that of an average item, old ones included. `shift` is added to it in evaluation: new
items then get as many clicks as the model expects (training/judging/new_bias.py).

Symbols: B rows, T length, I items, C new items, F side features, w their width, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, NamedTuple, cast

import torch
from torch import Tensor, nn

from models.base import MASKED, DatasetFacts, NewRows, SequentialRecommender, Tensors
from models.parts.item_feature import ItemFeature

SHIFT: Final = "shift"
"""The buffer of `IdPart` that is set after training."""
NEW_ITEMS: Final = "new_items"
"""The input of `encode` with a row (C, F*w + d) for each new item; item index I + 1 + c means row c."""


def check_share(share: float, side: Sequence[str], *, candidates: bool) -> None:
    """Check `id_dropout` of a config.

    Raises:
        ValueError: it is not a share, or an item without its id would have no vector as a candidate.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"id_dropout {share}: must be at least 0 and at most 1")
    if share and not (side and candidates):
        raise ValueError("id_dropout: needs item features in side, for candidates too (out_side)")


class IdPart(nn.Module):
    """The substitute for the ids of items that have none, and the draw of such items in training.

    Args:
        facts: an item whose popularity is 0 is new.
        width: d.
        share: of all items whose ids are taken away at each training step; 1 learns no ids at all.
    """

    from_data: ClassVar[tuple[str, ...]] = (SHIFT,)  # learnt from validation clicks: yesterday's is not today's

    def __init__(self, facts: DatasetFacts, width: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.vector, self.bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(()))
        is_new = torch.from_numpy(facts.item_popularity == 0) | (share >= 1.0)
        is_new[0] = False
        self.register_buffer("is_new", is_new, persistent=False)
        self.register_buffer(SHIFT, torch.zeros(()))
        self._missing = is_new

    is_new: Tensor
    shift: Tensor

    def draw(self) -> None:
        """Choose the items that have no id in this training step."""
        self._missing = (torch.rand(len(self.is_new), device=self.is_new.device) < self.share) | self.is_new
        self._missing[0] = False

    def rows(self, ids: Tensor, rows: Tensor) -> Tensor:
        """Return the table's rows (..., d) of items (...), the substitute for those without an id."""
        if not self.training:  # `fill` has put the substitute into the table
            return rows
        return torch.where(self._missing[ids][..., None], self.vector, rows)

    def table(self, weight: Tensor) -> Tensor:
        """Return the rows of all items (I+1, d) as `rows` does."""
        return torch.where(self._missing[:, None], self.vector, weight) if self.training else weight

    def biases(self, bias: Tensor) -> Tensor:
        """Return the biases of all items (I+1,); in training, new items take no part in any loss."""
        if not self.training:
            return bias
        return torch.where(self.is_new & (self.share < 1.0), MASKED, torch.where(self._missing, self.bias, bias))

    @torch.no_grad()
    def fill(self, weight: Tensor, bias: Tensor) -> None:
        """Write the substitutes into the rows and biases of new items, where evaluation and export read them."""
        weight[self.is_new] = self.vector
        bias[self.is_new] = self.bias + self.shift

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        state_dict.setdefault(f"{prefix}{SHIFT}", torch.zeros(()))  # weights from before there was a shift
        super()._load_from_state_dict(state_dict, prefix, *others)


def id_part(model: nn.Module) -> IdPart | None:
    """Return the substitute for ids of a model, if it has one and has ids."""
    return next((part for part in model.modules() if isinstance(part, IdPart) and part.share < 1.0), None)


def set_shift(model: SequentialRecommender, shift: float) -> None:
    """Set what is added to the bias of new items in evaluation; the model must have an `id_part`."""
    part = id_part(model)
    assert part is not None
    part.shift.fill_(shift)
    model.settle()


class ItemParts(NamedTuple):
    """The parts of a model that make an item's vectors: one way from ids or features to vectors, for all models.

    Attributes:
        table: id rows (I+1, d).
        side: an `ItemFeature` for each side feature.
        out: from all features to the candidate's vector, added to the id row; None where candidates have no features.
        ids: the substitute for missing ids; None where every item has its id.
    """

    table: nn.Embedding
    side: nn.ModuleList
    out: nn.Linear | None
    ids: IdPart | None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the side features."""
        return tuple(cast(ItemFeature, one).name for one in self.side)

    def read(self, inputs: Tensors) -> list[Tensor]:
        """Return the id rows of a history (B, T, d), and each feature's vectors (B, T, w)."""
        ids, last = inputs["items"], self.table.num_embeddings - 1
        if self.ids is not None and self.ids.training:
            self.ids.draw()
        given = inputs.get(NEW_ITEMS)
        if given is None:
            return [self._rows(ids), *(feature(ids) for feature in self.side)]
        is_given = ids > last
        known = torch.where(is_given, 0, ids)
        parts = [self._rows(known), *(feature(known) for feature in self.side)]
        own = given[(ids - last - 1).clamp_min(0)]
        chosen = torch.where(is_given[..., None], own, torch.cat(parts, dim=-1))
        return list(torch.split(chosen, [part.shape[-1] for part in parts], dim=-1))

    def candidates(self, ids: Tensor) -> Tensor:
        """Return the vector of each candidate, (..., d)."""
        rows = self._rows(ids)
        return rows if self.out is None else rows + self.out(torch.cat([one(ids) for one in self.side], dim=-1))

    def describe(self, features: Tensors) -> NewRows:
        """Return what `encode` and `score` read of new items, from the codes (C, values) of their features by name."""
        assert self.ids is not None
        assert self.out is not None
        described = [
            cast(ItemFeature, one).vectors(features[name]) for name, one in zip(self.names, self.side, strict=True)
        ]
        both = torch.cat(described, dim=-1)
        id_rows = self.ids.vector.expand(both.shape[0], -1)
        bias = (self.ids.bias + self.ids.shift).expand(both.shape[0], 1)
        return NewRows(torch.cat((id_rows, both), dim=-1), torch.cat((id_rows + self.out(both), bias), dim=-1))

    def _rows(self, ids: Tensor) -> Tensor:
        rows = torch.as_tensor(self.table(ids))
        return rows if self.ids is None else self.ids.rows(ids, rows)
