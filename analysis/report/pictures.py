"""The pictures of the page: SVG text in the page's own colours and font.

The same data give the same bytes: no date, no random id, no font of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any, Final, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.report.document import DayLift
from analysis.statistics.comparisons import Row
from analysis.text import percent

COLOURS: Final = {
    "ink": "#010203", "muted": "#010204", "line": "#010205", "better": "#010206", "worse": "#010207",
    "plain": "#010208", "band": "#010209",
}  # fmt: skip
"""Stand-ins that become `var(--ink)` and so on, so that one picture fits the light and the dark page."""
_SETTINGS: Final[Any] = {  # Any: matplotlib types the keys of its settings as a union of 300 texts
    "svg.fonttype": "none", "svg.hashsalt": "report", "font.family": ["DejaVu Sans"], "font.size": 13,
    "text.parse_math": False, "axes.unicode_minus": True,
}  # fmt: skip
_DOTS: Final = 72  # so that a point is a pixel
_ROLES: Final = (("primary", "Primary"), ("guardrail", "Guardrail"), ("secondary", "Secondary"))


def forest(rows: Sequence[Row], *, narrow: bool = False) -> str:
    """Draw the relative lifts with their intervals; the pale bar behind is plus and minus the MDE.

    Args:
        rows: in the order of the table; each role has its own scale.
        narrow: for a phone.
    """
    groups = [(title, [row for row in rows if row.role == role and row.estimate]) for role, title in _ROLES]
    groups = [(title, members) for title, members in groups if members]
    width, step, head, axis = (350, 46, 34, 30) if narrow else (1040, 30, 34, 30)
    height = sum(head + step * len(members) + axis for _, members in groups)
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width / _DOTS, height / _DOTS), dpi=_DOTS)
        top = height
        for title, members in groups:
            tall = step * len(members)
            left, right = (8, 8) if narrow else (210, 250)
            box = (left / width, (top - head - tall) / height, (width - left - right) / width, tall / height)
            _panel(figure.add_axes(box), title, members, narrow=narrow)
            top -= head + tall + axis
        return _svg(figure, "Relative lifts with 95% intervals")


def days(lifts: Sequence[DayLift], title: str) -> str:
    """Draw the lift of one metric by day since exposure, with intervals."""
    width, height = 340, 200
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width / _DOTS, height / _DOTS), dpi=_DOTS)
        axes = figure.add_axes((56 / width, 34 / height, (width - 64) / width, (height - 66) / height))
        arms = list(dict.fromkeys(one.arm for one in lifts))
        for place, arm in enumerate(arms):
            _day_line(axes, [one for one in lifts if one.arm == arm], (place - (len(arms) - 1) / 2) * 0.25, place)
        axes.axhline(0, color=COLOURS["ink"], linewidth=1, zorder=1)
        _style(axes, grid="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        axes.set_xlabel("day since exposure", color=COLOURS["muted"], fontsize=12, labelpad=3)
        axes.text(-48 / (width - 64), 1.1, title, transform=axes.transAxes, color=COLOURS["ink"], weight="bold")
        return _svg(figure, f"{title}: lift by day since exposure")


def _panel(axes: Axes, title: str, rows: Sequence[Row], *, narrow: bool) -> None:
    reach = 1.08 * max(_reach(row) for row in rows)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if not narrow:
        axes.axvline(0, color=COLOURS["ink"], linewidth=1, zorder=2)
    for place, row in enumerate(rows):
        _interval(axes, row, place + 0.22 if narrow else float(place), place, narrow=narrow)
    _style(axes, grid=None if narrow else "x")
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4 if narrow else 8, symmetric=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    left, size = axes.get_position().x0 * axes.figure.bbox.width, axes.bbox.width
    above = 1 + 14 / axes.bbox.height
    axes.text(
        -left / size if not narrow else 0, above, title, transform=axes.transAxes, color=COLOURS["muted"], weight="bold"
    )


def _interval(axes: Axes, row: Row, height: float, place: int, *, narrow: bool) -> None:
    found = row.estimate
    assert found is not None
    low, high = interval(row)
    colour = COLOURS[{1: "better", -1: "worse", 0: "plain"}[row.moved]]
    mde = row.mde or 0.0
    thick = 0.16 if narrow else 0.42
    axes.add_patch(
        Rectangle((-mde, height - thick), 2 * mde, 2 * thick, facecolor=COLOURS["band"], linewidth=0, zorder=0)
    )
    axes.plot([low, high], [height, height], color=colour, linewidth=2.5, solid_capstyle="round", zorder=3)
    axes.plot([found.lift], [height], "o", color=colour, markersize=7, markeredgewidth=0, zorder=4)
    bold = "bold" if row.moved else "normal"
    name = row.metric.title if row.arm == "treatment" else f"{row.metric.title} \N{MIDDLE DOT} {row.arm}"
    lift, limits = percent(found.lift), f"{percent(low)} to {percent(high)}"
    width = axes.bbox.width
    over = axes.get_yaxis_transform()
    if narrow:
        axes.plot([0, 0], [height - 0.2, height + 0.2], color=COLOURS["ink"], linewidth=1, zorder=2)
        axes.text(0, place - 0.2, name, transform=over, color=COLOURS["ink"], weight=bold, va="center")
        axes.text(
            1, place - 0.2, f"{lift}  ({limits})", transform=over, ha="right", va="center", color=colour, fontsize=11.5
        )
        return
    axes.text(-200 / width, place, name, transform=over, color=COLOURS["ink"], weight=bold, va="center")
    axes.text(1 + 80 / width, place, lift, transform=over, ha="right", va="center", color=colour, weight=bold)
    axes.text(1 + 96 / width, place, limits, transform=over, va="center", color=COLOURS["muted"], fontsize=12)


def interval(row: Row) -> tuple[float, float]:
    """Return the interval that counts at this reading: the fixed one, or early the one valid at every reading."""
    assert row.estimate is not None
    if row.sequential is not None:
        return row.sequential.lift_low, row.sequential.lift_high
    return row.estimate.lift_low, row.estimate.lift_high


def _reach(row: Row) -> float:
    low, high = interval(row)
    return max(-low, high, row.mde or 0.0)


def _day_line(axes: Axes, lifts: Sequence[DayLift], shift: float, place: int) -> None:
    x, y = [one.day + shift for one in lifts], [one.lift for one in lifts]
    colour = COLOURS["plain" if place == 0 else "muted"]
    for at, one in zip(x, lifts, strict=True):
        axes.plot([at, at], [one.lift_low, one.lift_high], color=colour, linewidth=2, solid_capstyle="round")
    axes.plot(x, y, "o-" if place == 0 else "s--", color=colour, markersize=5, linewidth=1, markeredgewidth=0)


def _style(axes: Axes, grid: Literal["x", "y"] | None) -> None:
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(COLOURS["line"])
    axes.tick_params(length=3, color=COLOURS["line"], labelcolor=COLOURS["muted"], labelsize=11)
    if grid is not None:
        axes.grid(axis=grid, color=COLOURS["line"], linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)


def _tick(value: float, _: int | None = None) -> str:
    text = f"{100 * value:.4g}".replace("-", "\N{MINUS SIGN}")
    return f"+{text}%" if value > 0 else f"{text}%"


def _svg(figure: Figure, label: str) -> str:
    figure.patch.set_alpha(0)
    content = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(content, format="svg", metadata=nothing)
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"'DejaVu Sans'(?:, [^;\"]*)?", "var(--font)", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', text, count=1)
