"""The replay as a picture: quality by day, and processor time of a day's training."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.daily.table import Chain

_SHOWN: Final = {"warm, no replay": "#1f77b4", "scratch": "#888888", "frozen": "#d62728"}
_NAMES: Final = {"warm, no replay": "warm start", "scratch": "from scratch", "frozen": "no training"}


def draw(chains: list[Chain], path: Path) -> None:
    """Write the picture as PNG."""
    models = list(dict.fromkeys(chain.model for chain in chains))
    figure, axes = plt.subplots(1, len(models) + 1, figsize=(4 * len(models) + 3, 3.4))
    for axis, model in zip(axes, models, strict=False):
        mine = [chain for chain in chains if chain.model == model]
        for chain in mine:
            if chain.variant in _SHOWN:
                days = [record["day"] for record in chain.records]
                axis.plot(days, chain.quality(), marker="o", label=_NAMES[chain.variant], color=_SHOWN[chain.variant])
        axis.plot(days, mine[0].baseline("popularity_of_day"), ":", label="popularity of the day", color="#2ca02c")
        axis.set(title=model, xlabel="day that judges", ylabel="NDCG@10", ylim=(0, None))
    axes[0].legend(fontsize=8)
    shown = [chain for chain in chains if chain.variant in ("scratch", "warm, no replay")]
    names = [f"{chain.model}\n{_NAMES[chain.variant]}" for chain in shown]
    axes[-1].barh(names, [chain.seconds() for chain in shown], color=[_SHOWN[chain.variant] for chain in shown])
    axes[-1].set(title="CPU seconds a day")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
