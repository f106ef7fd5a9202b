"""Pictures of the service's speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.peers import every, middle
from training.reporting import look

Document = Mapping[str, Any]  # Any: JSON

_PANELS: Final = (("rate", "Requests/s at 32 connections"), ("cpu_us", "Processor time of a request, \N{MICRO SIGN}s"))


def of_peers(document: Document, path: Path) -> None:
    """Draw requests/s and processor time of every server: median and range of the rounds."""
    names = [name for name in document["titles"] if every(document, name, "closed", "32", "rate")]
    figure = Figure(figsize=(11, 0.36 * len(names) + 1.5), dpi=100, layout="constrained")
    note = "Dots: medians of interleaved rounds; lines: from the lowest to the highest round; logarithmic axes"
    look.title(figure, "The service (blue) and other servers of the same model", note)
    grid = figure.subplots(1, 2, sharey=True, squeeze=False)
    for axes, (key, panel) in zip(grid.flat, _PANELS, strict=True):
        axes.set_xscale("log")
        for place, name in enumerate(names):
            colour = look.BLUE if name.startswith("ours") else look.GREY
            values = every(document, name, "closed", "32", key)
            look.ranged(axes, place, values, middle(document, name, "closed", "32", key), colour)
        look.plain(axes, "x")
        look.rows(axes, [document["titles"][name] for name in names])
        look.numbers(axes.xaxis)
        axes.margins(x=0.12)
        axes.set_title(panel, loc="left", fontsize=10)
    look.save(figure, path)


def of_service(document: Document, path: Path) -> None:
    """Draw goodput against the offered rate, and throughput against connections."""
    figure = Figure(figsize=(11, 4.2), dpi=100, layout="constrained")
    look.title(
        figure, "The service under load", "Dots: medians of the rounds of one run; bars: lowest to highest round"
    )
    overload, closed = figure.subplots(1, 2)
    measured = list(document.get("overload", {}).get("factors", {}).values())
    offered = [one["median"]["offered"] for one in measured]
    for key, colour, label in (("goodput", look.BLUE, "answered in time"), ("refused", look.GREY, "refused")):
        _line(overload, offered, measured, key, colour, label)
    overload.set_xscale("log")
    look.numbers(overload.xaxis)
    overload.set_xlabel("offered requests/s (log scale)")
    overload.set_title("Overload: requests/s answered within 50 ms, and refused", loc="left", fontsize=10)
    overload.legend(frameon=False, fontsize=9)
    sweep = document.get("connections", {})
    _line(closed, [int(name) for name in sweep], list(sweep.values()), "rate", look.BLUE, "")
    closed.set_xscale("log", base=2)
    closed.xaxis.set_major_formatter("{x:.0f}")
    closed.set_xlabel("connections (log scale), each waits for its answer")
    closed.set_title("Closed loop: requests/s", loc="left", fontsize=10)
    for axes in (overload, closed):
        look.plain(axes)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:,.0f}")
    look.save(figure, path)


def _line(axes: Axes, at: Sequence[float], measured: Sequence[Document], key: str, colour: str, label: str) -> None:
    values = [one["median"][key] for one in measured]
    axes.plot(at, values, "o-", color=colour, markersize=5, linewidth=1.4, label=label)
    for place, one in zip(at, measured, strict=True):
        rounds = [float(found[key]) for found in one.get("rounds", [])] or [one["median"][key]]
        axes.plot([place, place], [min(rounds), max(rounds)], color=colour, linewidth=2.2, alpha=0.5)
