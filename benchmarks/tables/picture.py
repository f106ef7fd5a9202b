"""A table's pictures: one bar per system, its seeds as dots; and the learning curve of each system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import matplotlib as mpl

mpl.use("Agg")  # draws to files, needs no screen
from matplotlib import pyplot as plt

_COLUMNS = 4


class Measured(Protocol):
    """A mean and the values of its seeds."""

    @property
    def by_seed(self) -> tuple[float, ...]:
        """One value per seed."""

    @property
    def mean(self) -> float:
        """Their mean."""


def draw(path: Path, title: str, metric: str, means: Mapping[str, Measured | None]) -> None:
    """Write a PNG of one metric, systems from the top in the order given; missing ones are marked."""
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


def draw_learning(path: Path, title: str, learning: Mapping[str, Sequence[Sequence[float]]], reference: str) -> None:
    """Write a PNG of panels on one scale: one per system of several epochs, a line per seed, the reference grey."""
    learnt = {name: seeds for name, seeds in learning.items() if any(len(values) > 1 for values in seeds)}
    if not learnt:
        return
    lines = -(-len(learnt) // _COLUMNS)
    figure, grid = plt.subplots(
        lines, _COLUMNS, sharex=True, sharey=True, squeeze=False, figsize=(10, 2 * lines + 0.8), layout="constrained"
    )
    for axes in grid.flat[len(learnt) :]:
        axes.set_visible(False)
    for axes, (name, seeds) in zip(grid.flat, learnt.items(), strict=False):
        for values in learnt.get(reference, ()) if name != reference else ():
            axes.plot(range(1, len(values) + 1), values, color="0.8", linewidth=1)
        for values in seeds:
            axes.plot(range(1, len(values) + 1), values, color="#4c72b0", linewidth=1.4)
        axes.set_title(name, loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid.flat[max(len(learnt) - _COLUMNS, 0) : len(learnt)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel(f"epoch; a line per seed, grey: {reference}", fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    figure.savefig(path, dpi=110)
    plt.close(figure)
