"""The picture of a proof: the false positives of each statistic beside the range that they must be in."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from analysis.proof.judge import ALPHA, Check

_GOOD, _BAD, _BAND = "#2f5d8a", "#c5823f", "#d9e4ef"
_SALT: Final = "proof"  # of ids in the SVG, so that the same numbers give the same bytes


def picture(checks: Mapping[str, Sequence[Check]]) -> bytes:
    """Return an SVG with a panel for each population."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = {name: [one for one in found if one.group.startswith("false positives")] for name, found in checks.items()}
    most = max(len(found) for found in shown.values())
    with rc_context({"svg.hashsalt": _SALT, "font.size": 9}):
        figure = Figure(figsize=(5.6 * len(shown), 1.2 + 0.21 * most), layout="constrained")
        for place, (name, found) in enumerate(shown.items()):
            _panel(figure.add_subplot(1, len(shown), place + 1), name, found)
        figure.suptitle("False positives at 5%, A/A replays (simulated); band: where a right statistic must be")
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _panel(axes: Any, name: str, found: Sequence[Check]) -> None:  # Any: matplotlib's Axes
    good = next(one for one in found if one.least < ALPHA < one.most)
    axes.axvspan(100 * good.least, 100 * good.most, color=_BAND, lw=0)
    axes.axvline(100 * ALPHA, color=_GOOD, lw=0.8)
    names = [one.name for one in found][::-1]
    colours = [_BAD if one.group != "false positives" else _GOOD for one in found][::-1]
    axes.scatter([100 * one.value for one in found][::-1], names, c=colours, s=18, zorder=3)
    axes.set_title(name)
    axes.set_xlabel("% of replays with p < 0.05")
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="#e5e2db", lw=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
