"""The picture of a proof: the false positives of each statistic beside the range that they must be in."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from analysis.proof.judge import ALPHA, Check

_GOOD, _BAD, _BAND = "#2f5d8a", "#c5823f", "#d9e4ef"
_TITLE: Final = "A/A replays (simulated): how often a test at 5% finds a difference that is not there"
_SALT: Final = "proof"  # of ids in the SVG, so that the same numbers give the same bytes


def picture(checks: Mapping[str, Sequence[Check]]) -> bytes:
    """Return an SVG with a panel for each population."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = {name: [one for one in found if one.group.startswith("false positives")] for name, found in checks.items()}
    most = max(len(found) for found in shown.values())
    with rc_context({"svg.hashsalt": _SALT, "font.size": 9}):
        figure = Figure(figsize=(5.6 * len(shown), 1.4 + 0.19 * most), layout="constrained")
        panels = figure.subplots(1, len(shown), sharex=True, squeeze=False)[0]
        for axes, (name, found) in zip(panels, shown.items(), strict=True):
            _panel(axes, name, found)
        figure.suptitle(_TITLE, x=0.01, ha="left", fontsize=11, weight="bold")
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _panel(axes: Any, name: str, found: Sequence[Check]) -> None:  # Any: matplotlib's Axes
    good = next(one for one in found if one.least < ALPHA < one.most)
    axes.axvspan(100 * good.least, 100 * good.most, color=_BAND, lw=0)
    axes.axvline(100 * ALPHA, color=_GOOD, lw=0.8)
    for place, one in enumerate(found):
        colour = _GOOD if one.group == "false positives" else _BAD
        low, high = _interval(one)
        axes.plot([100 * low, 100 * high], [place, place], color=colour, lw=1.2, alpha=0.6)
        axes.plot([100 * one.value], [place], "o", color=colour, markersize=4, zorder=3)
    axes.set_yticks(range(len(found)), [one.name for one in found])
    axes.set_ylim(len(found) - 0.3, -0.7)
    axes.set_title(f"{name}\nband: where a right statistic is", loc="left", fontsize=9)
    axes.set_xlabel("% of replays with p < 0.05; lines: 95% intervals")
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="#e5e2db", lw=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _interval(one: Check) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson)."""
    z2, count = 1.96**2, one.replays
    middle = (one.value + z2 / (2 * count)) / (1 + z2 / count)
    half = 1.96 * math.sqrt(one.value * (1 - one.value) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return middle - half, middle + half
