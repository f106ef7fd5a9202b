"""A table's pictures: systems with their seeds and intervals; quality against CPU seconds; learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import matplotlib as mpl

mpl.use("Agg")  # draws to files, needs no screen
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from training.reporting import look

_COLUMNS = 4
_WIDENINGS = 10
_SHOWN_SHARE = 0.6  # of the best mean: systems below are listed only
_BLUE, _RED, _GREY = look.BLUE, look.RED, look.GREY
_PROTOCOLS = {"a": "leave-one-out", "loo5": "LOO-5", "b": "split by time", "shown": "shown candidates"}
_FLOORS = {"auc": 0.5}  # of a metric: what chance gives

_HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]

Paired = tuple[float, float, float]  # mean, low, high


class Measured(Protocol):
    """A mean, the values of its seeds, and the difference to another system."""

    @property
    def by_seed(self) -> tuple[float, ...]:
        """One value per seed."""

    @property
    def mean(self) -> float:
        """Their mean."""

    @property
    def with_seeds(self) -> Paired | None:
        """The difference with its 95% interval over seeds and users."""


def draw(
    path: Path,
    title: str,
    metric: str,
    means: Mapping[str, Measured | None],
    reference: str,
    against: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a PNG of one metric, best first: the seeds of each system, and its difference with an interval.

    Args:
        path: of the file.
        title: of the picture.
        metric: what the means are of.
        means: by system; None if it is missing.
        reference: the system that the others are compared with, unless `against` has another for them.
        against: by system, the one that it is compared with; named beside the interval.
    """
    present = {name: cell for name, cell in means.items() if cell is not None}
    names = sorted(present, key=lambda name: -present[name].mean) + [name for name in means if name not in present]
    has_pairs = any(cell.with_seeds for cell in present.values())
    figure, grid = plt.subplots(
        1, 1 + has_pairs, sharey=True, squeeze=False, figsize=(11 if has_pairs else 7.5, 0.34 * len(names) + 1.7),
        width_ratios=(3, 4) if has_pairs else (1,), layout="constrained",
    )  # fmt: skip
    level, paired = grid[0, 0], grid[0, 1] if has_pairs else None
    for place, name in enumerate(names):
        _row(level, paired, place, present.get(name))
    level.set_yticks(range(len(names)), names)
    level.invert_yaxis()
    level.set_title(f"{look.in_words(metric)}\nmean (blue) and seeds (grey)", loc="left", fontsize=10)
    _start(level, metric)
    if paired is not None:
        paired.axvline(0, color="0.6", linewidth=1, zorder=0)
        told = f"Minus {reference}\n95% interval over seeds and users; grey: it contains 0"
        paired.set_title(told, loc="left", fontsize=10)
        others = [against.get(name, reference) for name in names]
        named = ["" if other == reference else other for other in others]
        _name_others(figure, paired, [present.get(name) for name in names], named)
    for axes in grid.flat:
        look.plain(axes)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    look.title(figure, title)
    look.save(figure, path)
    plt.close(figure)


def _row(level: Axes, paired: Axes | None, place: int, cell: Measured | None) -> None:
    if cell is None:
        level.text(0.02, place, "missing", transform=level.get_yaxis_transform(), va="center", color="0.4", fontsize=8)
        return
    level.plot(cell.by_seed, [place] * len(cell.by_seed), "o", color=_GREY, markersize=4, alpha=0.8)
    level.plot(cell.mean, place, "o", color=_BLUE, markersize=7)
    level.annotate(
        f"{cell.mean:.4f}", (max(cell.by_seed), place), (8, 0), textcoords="offset points", va="center", fontsize=8
    )
    if paired is not None and cell.with_seeds is not None:
        mean, low, high = cell.with_seeds
        colour = _GREY if low <= 0 <= high else _BLUE
        paired.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="round")
        paired.plot(mean, place, "o", color=colour, markersize=6)


def _name_others(figure: Figure, paired: Axes, cells: Sequence[Measured | None], others: Sequence[str]) -> None:
    """Name what a system is compared with ("": the reference), on the side of its interval with more room."""
    left, right = paired.get_xlim()
    names = []
    for place, (cell, other) in enumerate(zip(cells, others, strict=True)):
        if other and cell is not None and cell.with_seeds is not None:
            _, low, high = cell.with_seeds
            at, shift, side = (low, -6, "right") if low - left > right - high else (high, 6, "left")
            name = paired.annotate(
                f"minus {other}", (at, place), (shift, 0), textcoords="offset points", va="center", ha=side,
                fontsize=8, color="0.35",
            )  # fmt: skip
            name.set_in_layout(False)
            names.append(name)
    _make_room(figure, paired, names)


def _make_room(figure: Figure, axes: Axes, names: Sequence[Annotation]) -> None:
    """Widen the axis until no name is cut."""
    for _ in range(_WIDENINGS):
        figure.draw_without_rendering()
        room, extents = axes.get_window_extent(), [name.get_window_extent() for name in names]
        cut = [(one.x0 < room.x0, one.x1 > room.x1) for one in extents]
        left, right = axes.get_xlim()
        step = 0.05 * (right - left)
        axes.set_xlim(left - step * any(low for low, _ in cut), right + step * any(high for _, high in cut))


def _start(axes: Axes, metric: str) -> None:
    """Let the axis begin at what chance gives, if the metric has such a value, and else where the data do."""
    axes.margins(x=0.06)
    low, high = axes.get_xlim()
    axes.set_xlim(_FLOORS.get(metric, low), high + 0.16 * (high - low))  # the numbers need room


def heading(title: str, protocol: str) -> str:
    """Return the title of a picture of one protocol, in words."""
    return f"{title}, {_PROTOCOLS.get(protocol, protocol)}"


def draw_cost(path: Path, title: str, metric: str, costs: Mapping[str, tuple[float, Measured]]) -> None:
    """Write a PNG of one metric against the CPU seconds of one run; a line joins the best that each cost buys.

    Systems far below the best are named and not drawn: they would squeeze the others together.
    """
    chance = _FLOORS.get(metric, 0.0)
    least = chance + _SHOWN_SHARE * (max(cell.mean for _, cell in costs.values()) - chance)
    ordered = sorted(costs.items(), key=lambda one: one[1][0])
    shown = [(name, seconds, cell) for name, (seconds, cell) in ordered if cell.mean >= least]
    figure, axes = plt.subplots(figsize=(10, 5.6), layout="constrained")
    steps: list[tuple[float, float]] = []
    for _, seconds, cell in shown:
        axes.plot([seconds] * 2, [min(cell.by_seed), max(cell.by_seed)], color="0.85", linewidth=2, zorder=1)
        best = not steps or cell.mean > steps[-1][1]
        axes.plot(seconds, cell.mean, "o", color=_RED if best else _BLUE, markersize=7, zorder=3)
        if best:
            steps.append((seconds, cell.mean))
    axes.plot(*zip(*steps, strict=True), drawstyle="steps-post", color=_RED, linewidth=1, alpha=0.6, zorder=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,.0f}" if f"{value:.0e}"[0] in "25" else "")
    axes.margins(x=0.08, y=0.08)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.16)  # the names need room
    axes.set_ylim(*axes.get_ylim())
    axes.set_xlabel("CPU seconds of one run (log scale), mean over seeds")
    axes.set_ylabel(f"{look.in_words(metric)}\nmean over seeds, bar from lowest to highest")
    look.plain(axes)
    axes.set_title(f"{title}: quality and cost", loc="left", weight="bold", pad=22)
    axes.text(0, 1.02, "red: the best for its cost", transform=axes.transAxes, fontsize=9, color=_RED)
    missing = [f"{name} ({cell.mean:.4f})" for name, (_, cell) in ordered if cell.mean < least]
    if missing:
        note = f"not drawn: {', '.join(missing)}"
        axes.text(1, 1.02, note, transform=axes.transAxes, fontsize=8, color="0.35", ha="right")
    _name(figure, axes, [(name, seconds, cell.mean) for name, seconds, cell in shown])
    look.save(figure, path)
    plt.close(figure)


def _name(figure: Figure, axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write each name beside its point, at the first place where it meets no other name and no point."""
    figure.canvas.draw()
    figure.set_layout_engine("none")  # places stay as they are measured
    scale = figure.dpi / 72
    taken = [
        Bbox.from_bounds(x - 5, y - 5, 10, 10)
        for x, y in (axes.transData.transform((seconds, mean)) for _, seconds, mean in points)
    ]
    for name, seconds, mean in points:
        for across, down, side in _PLACES:
            text = axes.annotate(
                name, (seconds, mean), (across, down), textcoords="offset points", ha=side, va="center", fontsize=8.5,
                path_effects=_HALO,
                arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6} if abs(down) > 8 else None,
            )  # fmt: skip
            text.set_in_layout(False)
            box = _box(text).padded(scale)
            if not any(box.overlaps(other) for other in taken) and _inside(axes, box):
                break
            text.remove()
        else:
            text = axes.annotate(name, (seconds, mean), (9, 0), textcoords="offset points", va="center", fontsize=8.5)
            text.set_in_layout(False)
            box = _box(text)
        taken.append(box)


_PLACES = tuple(
    (across, down, side)
    for down in (0, 10, -10, 20, -20, 32, -32, 46, -46)
    for across, side in ((9, "left"), (-9, "right"))
)  # points from a dot, near ones first


def _box(text: Annotation) -> Bbox:
    """Return the box of the words, without the arrow."""
    text.get_window_extent()  # moves the words to their place
    return Text.get_window_extent(text)


def _inside(axes: Axes, box: Bbox) -> bool:
    return bool(box.x0 >= axes.bbox.x0 and box.x1 <= axes.bbox.x1 and box.y0 >= axes.bbox.y0 and box.y1 <= axes.bbox.y1)


def draw_learning(path: Path, title: str, learning: Mapping[str, Sequence[Sequence[float]]], reference: str) -> None:
    """Write a PNG of panels on one scale: one per system of several epochs, a line per seed, the reference grey.

    Systems far below the best have a scale of their own, so that the others can be told apart.
    """
    learnt = {name: seeds for name, seeds in learning.items() if any(len(values) > 1 for values in seeds)}
    if not learnt:
        return
    tops = {name: max(map(max, seeds)) for name, seeds in learnt.items()}
    shown = {name for name, top in tops.items() if top >= _SHOWN_SHARE * max(tops.values())}
    limits = look.limits((value for name in shown for seed in learnt[name] for value in seed), margin=0.05)
    lines = -(-len(learnt) // _COLUMNS)
    figure, grid = plt.subplots(
        lines, _COLUMNS, sharex=True, squeeze=False, figsize=(11, 1.9 * lines + 1.1), layout="constrained"
    )
    for axes in grid.flat[len(learnt) :]:
        axes.set_visible(False)
    for axes, (name, seeds) in zip(grid.flat, learnt.items(), strict=False):
        own = name not in shown
        for curve in learnt.get(reference, ()) if name != reference and not own else ():
            axes.plot(range(1, len(curve) + 1), curve, color="0.8", linewidth=1)
        for curve in seeds:
            axes.plot(range(1, len(curve) + 1), curve, color=_BLUE, linewidth=1.4)
        axes.set_title(f"{name} (own scale)" if own else name, loc="left", fontsize=9)
        look.plain(axes)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if not own:
            axes.set_ylim(*limits)
        axes.tick_params(labelsize=8)
    for axes in grid.flat[max(len(learnt) - _COLUMNS, 0) : len(learnt)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel(f"epoch; blue: a line per seed; grey: {reference}", fontsize=9)
    look.title(figure, title)
    look.save(figure, path)
    plt.close(figure)
