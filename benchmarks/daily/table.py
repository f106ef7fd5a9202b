"""The replay as a table: quality and processor time of each way to train every day, paired with scratch by user."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.daily.systems import LABELS
from benchmarks.markdown import table
from training.judging.intervals import interval

METRIC: Final = "ndcg@10"
_HEAD: Final = ("Model", "Every day", "Rows a day", "CPU s a day", "NDCG@10", "minus scratch, 95% interval")


class Chain(NamedTuple):
    """Seven days of one model trained in one way: the records, and the metrics of every query by day."""

    model: str
    variant: str
    records: list[dict[str, Any]]
    days: list[dict[str, NDArray[Any]]]  # Any: numbers of several types

    def quality(self) -> list[float]:
        """Return the metric of each day, in the view that comes first."""
        return [record[record["first"]][METRIC] for record in self.records]

    def baseline(self, name: str) -> list[float]:
        """Return a baseline's metric of each day."""
        return [record["baselines"][name][METRIC] for record in self.records]

    def seconds(self) -> float:
        """Return the median processor time of a day's training, without that of the base."""
        trained = self.records[1:] if self.variant != "frozen" else []
        return float(np.median([record["cpu_seconds"] for record in trained])) if trained else 0.0

    def rows(self) -> int:
        """Return the median of the rows that a day's training learns, all epochs together."""
        trained = self.records[1:] if self.variant != "frozen" else []
        return int(np.median([record["rows"] * record["epochs"] for record in trained])) if trained else 0

    def by_user(self) -> NDArray[np.float64]:
        """Return each user's mean over all queries of the days after the first, which all chains share."""
        users = np.concatenate([day["user"] for day in self.days[1:]])
        values = np.concatenate([day[METRIC] for day in self.days[1:]])
        counts = np.bincount(users)
        means = np.bincount(users, weights=values) / np.maximum(counts, 1)
        return np.asarray(means[counts > 0], dtype=np.float64)


def markdown(chains: list[Chain]) -> str:
    """Return the table; the metric is a mean over the days that follow a daily training."""
    rows = []
    for model in dict.fromkeys(chain.model for chain in chains):
        mine = {chain.variant: chain for chain in chains if chain.model == model}
        scratch = mine["scratch"].by_user()
        for variant, chain in mine.items():
            difference = (
                "" if variant == "scratch" else "{:+.4f} [{:+.4f}, {:+.4f}]".format(*interval(chain.by_user(), scratch))
            )
            spent, quality = (f"{chain.rows():,}", f"{chain.seconds():.1f}"), f"{np.mean(chain.quality()[1:]):.4f}"
            rows.append((model, LABELS[variant], *spent, quality, difference))
    for name in chains[0].records[0]["baselines"]:
        rows.append((name.replace("_", " "), "", "", "", f"{np.mean(chains[0].baseline(name)[1:]):.4f}", ""))
    return "\n".join(table(_HEAD, rows)) + "\n"
