"""A table's pictures: a bar per system, its seeds as dots; quality against CPU seconds; learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import matplotlib as mpl

mpl.use("Agg")  # draws to files, needs no screen
from matplotlib import pyplot as plt

_COLUMNS = 4
_SHOWN_SHARE = 0.6  # of the best mean: systems below are listed only


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


def draw_cost(path: Path, title: str, metric: str, costs: Mapping[str, tuple[float, Measured]]) -> None:
    """Write a PNG of one metric against the CPU seconds of one run; a line joins the best that each cost buys.

    Systems far below the best are listed and not drawn: they would squeeze the others together.
    """
    ordered = sorted(costs.items(), key=lambda one: one[1][0])
    least = _SHOWN_SHARE * max(cell.mean for _, cell in costs.values())
    figure, (axes, beside) = plt.subplots(1, 2, figsize=(11, 5), width_ratios=(5, 3), layout="constrained")
    best, steps, lines = 0.0, [], []
    for number, (name, (seconds, cell)) in enumerate(ordered, start=1):
        shown = cell.mean >= least
        lines.append(f"{number:2}  {cell.mean:.4f}  {seconds:6,.0f} s  {name}{'' if shown else ' (not drawn)'}")
        if not shown:
            continue
        axes.plot([seconds] * 2, [min(cell.by_seed), max(cell.by_seed)], color="0.75", linewidth=1.5, zorder=1)
        axes.plot(seconds, cell.mean, "o", color="#4c72b0", markersize=6, zorder=3)
        axes.annotate(str(number), (seconds, cell.mean), xytext=(5, 4), textcoords="offset points", fontsize=9)
        if cell.mean > best:
            best = cell.mean
            steps.append((seconds, best))
    axes.plot(*zip(*steps, strict=True), drawstyle="steps-post", color="#c44e52", linewidth=1.2, zorder=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,.0f}" if f"{value:.0e}"[0] in "25" else "")
    axes.margins(x=0.12, y=0.1)
    axes.set_xlabel("CPU seconds of one run, mean over seeds (log scale)")
    axes.set_ylabel(f"{metric.upper()}: mean, grey bar from lowest to highest seed")
    axes.set_title(f"{title}; red: the best for its cost", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    beside.axis("off")
    beside.text(0, 1, "\n".join(lines), family="monospace", fontsize=8.5, va="top", linespacing=1.5)
    figure.savefig(path, dpi=100)
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
