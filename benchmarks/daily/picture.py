"""The replay as a picture: quality by day, and processor time of a day's training."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.daily.table import Chain
from training.reporting import look

_SHOWN: Final = {
    "warm, no replay": (look.BLUE, "warm start on the new rows"),
    "scratch": (look.GREY, "from scratch"),
    "frozen": (look.RED, "no training"),
}
_MODELS: Final = {"sasrec": "SASRec", "pyramid_mixer": "Pyramid Mixer"}


def draw(chains: list[Chain], path: Path) -> None:
    """Write the picture as PNG."""
    models = list(dict.fromkeys(chain.model for chain in chains))
    figure = Figure(figsize=(4 * len(models) + 4, 4.2), dpi=100, layout="constrained")
    look.title(figure, "A week of daily trainings, KuaiRand-Pure", "Each day judges the bundle of the day before")
    grid = figure.subplots(1, len(models) + 1, squeeze=False, width_ratios=[*[4] * len(models), 3.2])[0]
    for axes, model in zip(grid, models, strict=False):
        _days(axes, [chain for chain in chains if chain.model == model])
        axes.set_title(f"{_MODELS.get(model, model)}: {look.in_words('unseen.ndcg@10')}", loc="left", fontsize=10)
        axes.set_ylim(*_limits(chains))
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    _seconds(grid[-1], [chain for chain in chains if chain.variant in ("scratch", "warm, no replay")])
    look.save(figure, path)


def _days(axes: Axes, chains: list[Chain]) -> None:
    days = [record["day"] for record in chains[0].records]
    for variant, (colour, name) in _SHOWN.items():
        for chain in (chain for chain in chains if chain.variant == variant):
            axes.plot(days, chain.quality(), "o-", color=colour, label=name, markersize=5, linewidth=1.6)
    popular = chains[0].baseline("popularity_of_day")
    axes.plot(days, popular, ":", color="0.3", label="popularity of the day", linewidth=1.4)
    axes.set_xlabel("day")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    look.plain(axes)


def _limits(chains: list[Chain]) -> tuple[float, float]:
    """Return one scale for all models: that of what is shown."""
    lines = [chain.quality() for chain in chains if chain.variant in _SHOWN]
    lines.append(chains[0].baseline("popularity_of_day"))
    return look.limits((value for line in lines for value in line), margin=0.08)


def _seconds(axes: Axes, chains: list[Chain]) -> None:
    axes.set_xscale("log")
    for place, chain in enumerate(chains):
        spent = [float(record["cpu_seconds"]) for record in chain.records[1:]]
        look.ranged(axes, place, spent, chain.seconds(), _SHOWN[chain.variant][0])
    look.plain(axes, "x")
    look.rows(axes, [f"{_MODELS.get(chain.model, chain.model)},\n{_short(chain.variant)}" for chain in chains])
    look.numbers(axes.xaxis)
    axes.margins(x=0.2)
    axes.set_title("CPU seconds of a day's training", loc="left", fontsize=10)
    axes.set_xlabel("log scale; dot: median, line: lowest to highest day", fontsize=8)


def _short(variant: str) -> str:
    return "from scratch" if variant == "scratch" else "warm start"
