"""Pictures of the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.report.peers import middle

Document = Mapping[str, Any]  # Any: JSON


def of_peers(document: Document, path: Path) -> None:
    """Draw requests/s and processor time of every server."""
    names = [name for name in document["titles"] if any(name in found for found in document["rounds"])]
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.42 * len(names) + 1.2), sharey=True)
    for axis, figure_name, title in zip(
        axes, ("rate", "cpu_us"), ("requests/s, 32 connections", "CPU us a request"), strict=True
    ):
        values = [middle(document, name, "closed", "32", figure_name) for name in names]
        colours = ["tab:blue" if name.startswith("ours") else "0.6" for name in names]
        bars = axis.barh([document["titles"][name] for name in names], values, color=colours)
        axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_xscale("log")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def of_service(document: Document, path: Path) -> None:
    """Draw goodput against the offered rate, and throughput against connections."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6))
    overload = document.get("overload", {}).get("factors", {})
    offered = [one["median"]["offered"] for one in overload.values()]
    axes[0].plot(offered, [one["median"]["goodput"] for one in overload.values()], "o-", label="goodput")
    axes[0].plot(offered, [one["median"]["refused"] for one in overload.values()], "s--", color="0.6", label="refused")
    axes[0].set_xlabel("offered, per s")
    axes[0].set_ylabel("per s")
    axes[0].legend(frameon=False)
    axes[0].set_title("overload: answers within 50 ms", fontsize=10)
    sweep = document.get("connections", {})
    for label, key in (("requests/s", "rate"),):
        axes[1].plot([int(name) for name in sweep], [one["median"][key] for one in sweep.values()], "o-", label=label)
    axes[1].set_xscale("log", base=2)
    axes[1].set_xlabel("connections")
    axes[1].set_ylabel("requests/s")
    axes[1].set_title("closed loop", fontsize=10)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
