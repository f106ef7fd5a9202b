"""trials.png: validation of the trials in their order, and by the value of each key that was searched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from training.recipe import Recipe
from training.reporting import look
from training.search.study import METRIC
from training.space import Dimension, Space

_KINDS: Final = (
    (TrialState.COMPLETE, "o", look.BLUE, "complete"),
    (TrialState.PRUNED, "x", look.GREY, "pruned: value at its last epoch"),
)
_MOST: Final = 9  # keys that are shown


def draw(trials: Sequence[FrozenTrial], recipe: Recipe, space: Space, path: Path) -> None:
    """Write the picture of a search."""
    look.save(figure_of(trials, recipe, space, path.parent.name), path)


def figure_of(trials: Sequence[FrozenTrial], recipe: Recipe, space: Space, name: str) -> Figure:
    """Return the picture of a search."""
    keys = list(space)[:_MOST]
    columns = 2 if len(keys) in (2, 4) else 3
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(9.5, 3.2 + 2.3 * rows), dpi=100, layout="constrained")
    look.title(figure, f"Search around {recipe.found().name} on {recipe.dataset}", f"{name}: {_count(trials)}")
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[1.25, *[1.0] * rows])
    metric = next((str(trial.user_attrs[METRIC]) for trial in trials if METRIC in trial.user_attrs), "metric")
    _history(figure.add_subplot(grid[0, :]), trials, look.in_words(metric))
    for place, key in enumerate(keys):
        axes = figure.add_subplot(grid[1 + place // columns, place % columns])
        _by_value(axes, trials, key, space[key])
        if not place % columns:
            axes.set_ylabel(look.in_words(metric).partition(",")[0], fontsize=9)
    return figure


def _count(trials: Sequence[FrozenTrial]) -> str:
    count = {state: sum(trial.state is state for trial in trials) for state in TrialState}
    return (
        f"{len(trials)} trials, {count[TrialState.COMPLETE]} complete, {count[TrialState.PRUNED]} pruned, "
        f"{count[TrialState.FAIL]} failed"
    )


def _best(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return max(complete, key=lambda trial: trial.value or 0.0, default=None)


def _history(axes: Axes, trials: Sequence[FrozenTrial], metric: str) -> None:
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    reached = [max(one.value or 0.0 for one in complete[: place + 1]) for place in range(len(complete))]
    axes.step(
        [trial.number for trial in complete], reached, where="post", color=look.RED, linewidth=1, label="best so far"
    )
    _points(axes, trials, [float(trial.number) for trial in trials])
    axes.set_xlabel("trial")
    axes.set_title(f"validation: {metric}", loc="left", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(
        fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, columnspacing=1, handletextpad=0.3
    )


def _by_value(axes: Axes, trials: Sequence[FrozenTrial], key: str, dimension: Dimension) -> None:
    given = [trial for trial in trials if key in trial.params]
    values: list[Any] = [trial.params[key] for trial in given]  # Any: numbers or names
    if dimension.choices:
        places = [float(dimension.choices.index(value)) for value in values]
        axes.set_xticks(range(len(dimension.choices)), [str(choice) for choice in dimension.choices])
        axes.set_xlim(-0.5, len(dimension.choices) - 0.5)
    else:
        places = [float(value) for value in values]
        axes.set_xscale("log" if dimension.log else "linear")
    _points(axes, given, places)
    axes.set_xlabel(key, fontsize=9)
    axes.tick_params(labelsize=8)


def _points(axes: Axes, trials: Sequence[FrozenTrial], places: Sequence[float]) -> None:
    for state, marker, colour, label in _KINDS:
        mine = [(at, one.value or 0.0) for at, one in zip(places, trials, strict=True) if one.state is state]
        if mine:
            axes.plot(*zip(*mine, strict=True), marker, color=colour, markersize=5, label=label)
    best = _best(trials)
    if best is not None:
        at = places[[trial.number for trial in trials].index(best.number)]
        axes.plot([at], [best.value or 0.0], "o", color=look.RED, markersize=9, fillstyle="none", label="best")
    look.plain(axes)
