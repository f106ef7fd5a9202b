"""Side information: facts about an item or a behaviour other than the item's id, as vectors.

Symbols: B rows, T length, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contract.bundle.tensors import SequenceColumn
from models.base import DatasetFacts, Tensors
from models.parts.item_feature import ItemFeature, field_table
from models.parts.new_items import IdPart, ItemParts, check_share

GAP_BINS: Final = 32  # the last one begins at 2^31 seconds
RATING_BINS: Final = 51  # half units of a value that is stored as tenths in one byte


class SideInformation(nn.Module):
    """All side information of a behaviour in one d-wide vector, and that of a candidate in another.

    Args:
        facts: the data set's.
        width: d.
        side: item features.
        rating: whether the behaviour's value is read.
        gap: whether the logarithm of the time since the behaviour before is read.
        candidates: whether candidates have a vector too (only of the item features: a candidate has no behaviour).
        start: standard deviation of the tables at the start; 0 = 1/sqrt(d).
    """

    def __init__(
        self,
        facts: DatasetFacts,
        width: int,
        side: Sequence[str],
        *,
        rating: bool,
        gap: bool,
        candidates: bool,
        start: float = 0.0,
    ) -> None:
        super().__init__()
        fields = len(side) + rating + gap
        if not fields:
            raise ValueError("side information: name at least one of side, rating, gap")
        own, std = width // fields, start or width**-0.5
        self.side = nn.ModuleList(ItemFeature(facts, name, own, std) for name in side)
        self.rating = field_table(RATING_BINS + 1, own, std) if rating else None
        self.gap = field_table(GAP_BINS + 1, own, std) if gap else None
        self.group = nn.Linear(fields * own, width)
        self.out = nn.Linear(len(side) * own, width, bias=False) if candidates and side else None

    def behaviours(self, inputs: Tensors, fields: list[Tensor]) -> Tensor:
        """Return the vector of each behaviour, (B, T, d), given those of its item's features."""
        ids = inputs["items"]
        if self.rating is not None:
            fields.append(self.rating(rating_bins(inputs["values"])))
        if self.gap is not None:
            fields.append(self.gap(gap_bins(ids, inputs["times"])))
        return torch.as_tensor(self.group(torch.cat(fields, dim=-1)))

    def candidates(self, ids: Tensor) -> Tensor | None:
        """Return the vector of each candidate, (..., d), to be added to its id's; None if there is none."""
        if self.out is None:
            return None
        return torch.as_tensor(self.out(torch.cat([feature(ids) for feature in self.side], dim=-1)))


@dataclass(frozen=True)
class SideFields:
    """A behaviour's side information, for the config of a model that adds it to the item's vector.

    Attributes:
        side: item features, added to the vector of each behaviour.
        rating, gap: the behaviour's value, and the log of the time since the one before, added too.
        out_side: the candidate's vector is its id row plus a linear map of its features.
        side_start: standard deviation of the tables of side information at the start; 0 = 1/sqrt(d).
        id_dropout: share of items whose ids are taken away at each training step (models/parts/new_items.py).
    """

    side: tuple[str, ...] = ()
    rating: bool = False
    gap: bool = False
    out_side: bool = False
    side_start: float = 0.0
    id_dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.side_start <= 1:
            raise ValueError(f"side_start: {self.side_start} is not between 0 and 1")
        check_share(self.id_dropout, self.side, candidates=self.out_side)

    @property
    def columns(self) -> tuple[SequenceColumn, ...]:
        """Return the behaviour columns to read."""
        return side_columns(rating=self.rating, gap=self.gap)


class ItemVectors(nn.Embedding):
    """The item table (I+1, d) of `layers.item_table`, with side information added where a model reads any.

    Called, it gives id rows. Without side information the other methods give the same.
    """

    def __init__(self, facts: DatasetFacts, width: int, std: float, fields: SideFields | None = None) -> None:
        super().__init__(facts.item_count + 1, width, padding_idx=0)
        nn.init.normal_(self.weight, std=std)
        with torch.no_grad():
            self.weight[0] = 0.0
        self.side: SideInformation | None = None
        self.ids: IdPart | None = None
        if fields is not None and (fields.side or fields.rating or fields.gap):
            self.side = SideInformation(
                facts,
                width,
                fields.side,
                rating=fields.rating,
                gap=fields.gap,
                candidates=fields.out_side,
                start=fields.side_start,
            )
            if fields.id_dropout:
                self.ids = IdPart(facts, width, fields.id_dropout)

    @property
    def parts(self) -> ItemParts:
        """Return what an item's vectors are made of."""
        side, out = (nn.ModuleList(), None) if self.side is None else (self.side.side, self.side.out)
        return ItemParts(self, side, out, self.ids)

    def behaviours(self, inputs: Tensors) -> Tensor:
        """Return the vector of each behaviour, (B, T, d); that of padding means nothing."""
        rows, *fields = self.parts.read(inputs)
        return rows if self.side is None else rows + self.side.behaviours(inputs, fields)

    def all(self) -> Tensor:
        """Return the vector of every item as a candidate, (I+1, d)."""
        if self.side is None or self.side.out is None:
            return self.weight
        ids = torch.arange(len(self.weight), device=self.weight.device)
        rows = self.weight if self.ids is None else self.ids.table(self.weight)
        return rows + torch.as_tensor(self.side.candidates(ids))

    def candidates(self, ids: Tensor) -> Tensor:
        """Return the vector of each candidate, (..., d).

        Rows are taken from the whole table, which an exported graph contains, and not mapped for each candidate.
        """
        if self.sparse or self.side is None or self.side.out is None:  # a sparse table learns by rows
            return self.parts.candidates(ids)
        return F.embedding(ids, self.all())


def side_columns(*, rating: bool, gap: bool) -> tuple[SequenceColumn, ...]:
    """Return the behaviour columns that side information reads, `items` first."""
    return ("items", *(("times",) if gap else ()), *(("values",) if rating else ()))


def rating_bins(values: Tensor) -> Tensor:
    """Return half units of values stored as tenths, at most 51; 0 if there is no value."""
    return torch.clamp((values + 4) // 5, 0, RATING_BINS)


def gap_bins(ids: Tensor, times: Tensor) -> Tensor:
    """Return 1 + floor(log2(1 + seconds since the behaviour before)), at most 32; 0 on padding and for the first.

    Counted against thresholds in whole milliseconds: a float logarithm falls on either side of a power of two by
    provider, and a division of whole numbers is exported by way of float32, which cannot hold them.
    """
    before = torch.cat((torch.zeros_like(ids[:, :1]), ids[:, :-1]), dim=1)
    earlier = torch.cat((times[:, :1], times[:, :-1]), dim=1)
    thresholds = 1000 * (2 ** torch.arange(1, GAP_BINS, device=ids.device) - 1)  # 1, 3, 7, ... seconds
    bins = 1 + ((times - earlier)[..., None] >= thresholds).to(torch.int64).sum(dim=-1)
    return bins * ((ids > 0) & (before > 0)).to(torch.int64)
