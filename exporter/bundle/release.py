"""The contents of a bundle before it is written.

Symbols: M flat candidates of the golden rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.bundle.manifest import ENCODE_NEW, FEATURES, ITEM, SCORE_NEW, NewItemSpec
from exporter.graphs.new_items import TracedNew
from exporter.graphs.trace import Traced
from exporter.parity.new_items import NewGolden
from exporter.parity.verify import Parity
from exporter.rows import Rows
from exporter.run.directory import Run
from exporter.run.features import RunFeatures


@dataclass(frozen=True, eq=False)
class Release:
    """The contents of a bundle."""

    run: Run
    traced: Traced
    report: list[Parity]
    golden: Rows
    scores: NDArray[np.float32]  # (M,) of the golden rows, by torch
    new: NewRelease | None = None  # for a model that scores new items
    has_reference: bool = True  # if the run has one; older services refuse it


class NewRelease(NamedTuple):
    """The part of a bundle for new items."""

    traced: TracedNew
    features: RunFeatures
    golden: NewGolden
    report: list[Parity]

    def spec(self) -> NewItemSpec:
        """Return the part of the manifest."""
        graphs = {name: getattr(self.traced, name).spec for name in ("item", "encode", "score")}
        return NewItemSpec(features=self.features.specs, **graphs)

    def files(self) -> dict[str, bytes]:
        """Return the files by name."""
        traced = self.traced
        graphs = {ITEM: traced.item.content, ENCODE_NEW: traced.encode.content, SCORE_NEW: traced.score.content}
        return {**graphs, FEATURES: self.features.content()}

    def readers(self) -> dict[str, tuple[str, ...]]:
        """Return the tables of each graph by its name."""
        traced = self.traced
        return {"item": traced.item.tables, "encode_new": traced.encode.tables, "score_new": traced.score.tables}
