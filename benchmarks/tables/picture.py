"""A table's picture: one bar per system, its seeds as dots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import matplotlib as mpl

mpl.use("Agg")  # draws to files, needs no screen
from matplotlib import pyplot as plt


class Measured(Protocol):
    """A mean and the values of its seeds."""

    @property
    def by_seed(self) -> tuple[float, ...]:
        """One value per seed."""

    @property
    def mean(self) -> float:
        """Their mean."""


def draw(path: Path, title: str, metric: str, means: Mapping[str, Measured | None]) -> None:
    """Write a PNG of one metric, systems from the top in the order given; a missing one says so."""
    figure, axes = plt.subplots(figsize=(7.5, 0.36 * len(means) + 1.2), layout="constrained")
    names = list(means)
    for place, name in enumerate(names):
        cell = means[name]
        if cell is None:
            axes.text(0, place, " missing", va="center", color="0.4", fontsize=8)
            continue
        axes.barh(place, cell.mean, color="#4c72b0", height=0.62)
        axes.plot(cell.by_seed, [place] * len(cell.by_seed), "o", color="black", markersize=3)
        axes.text(max(cell.by_seed), place, f"  {cell.mean:.4f}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric.upper()}, mean over queries; dots are seeds")
    axes.set_title(title, loc="left")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
