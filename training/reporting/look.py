"""The look of the pictures of trainings and measurements: colours, titles, axes, and metrics in words.

Importing this module does not import matplotlib, which needs an extra.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from contract.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREY, BROWN = "#2f5d8a", "#b3402f", "#9a9a9a", "#8a5a00"
"""Blue: what a picture is about; red: what the eye should find first; grey: what it is compared with."""
_GRID: Final = "0.93"

_VIEWS: Final = {
    "unseen": "seen items ruled out", "alive": "among items alive", "warm": "items known in training",
    "cold": "items born after training", "pool": "pools of a user's queries", "pop100": "100 popular negatives",
    "uni100": "100 uniform negatives",
}  # fmt: skip


def in_words(metric: str) -> str:
    """Return a metric as readers name it: `unseen.ndcg@10` is `NDCG@10, seen items ruled out`."""
    *views, name = metric.split(".")
    return ", ".join([name.upper(), *(_VIEWS.get(view, view) for view in views)])


def title(figure: Figure, text: str, note: str = "") -> None:
    """Write a bold title at the left, and below it a note."""
    room = "\n " if note else ""
    figure.suptitle(text + room, x=0.01, ha="left", fontsize=12, weight="bold", linespacing=1.5)
    if note:
        figure.text(0.01, 1 - 0.36 / figure.get_figheight(), note, ha="left", va="top", fontsize=9, color="0.35")


def plain(axes: Axes, grid: Literal["x", "y", "both"] = "both") -> None:
    """Give axes a pale grid behind the data, and no frame."""
    axes.grid(axis=grid, color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def limits(values: Iterable[float], margin: float) -> tuple[float, float]:
    """Return the ends of one scale for several panels: the values, a margin of their spread, and a range in any case.

    Args:
        values: all that is drawn; at least one.
        margin: share of the spread.
    """
    drawn = list(values)
    low, high = min(drawn), max(drawn)
    room = margin * (high - low) or margin * abs(high) or margin  # matplotlib warns of a scale without a range
    return low - room, high + room


def rows(axes: Axes, names: list[str]) -> None:
    """Make the vertical axis a list of names, the first one on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def ranged(axes: Axes, place: float, values: list[float], middle: float, colour: str) -> None:
    """Draw a dot at the middle of values, and a line from the lowest to the highest one."""
    axes.plot([min(values), max(values)], [place, place], color=colour, linewidth=2.2, alpha=0.5)
    axes.plot([middle], [place], "o", color=colour, markersize=7)
    axes.annotate(
        f"{middle:,.0f}" if middle >= 10 else f"{middle:.1f}", (max(values), place), (8, 0),
        textcoords="offset points", va="center", fontsize=8,
    )  # fmt: skip


def numbers(axis: Any) -> None:  # Any: matplotlib's XAxis or YAxis, already logarithmic
    """Label a logarithmic axis with plain numbers: 100, 300, 1,000."""
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.set_minor_formatter(lambda value, _: f"{value:,.0f}" if f"{value:.0e}".startswith("3") else "")


def save(figure: Figure, path: Path) -> None:
    """Write a picture as a small PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", pil_kwargs={"optimize": True})
    write_whole(path, content.getvalue())
