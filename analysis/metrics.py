"""The metrics of the online table, and how the report treats each (docs/online-metrics.md has the definitions).

A mean metric is one number per unit over its window; the unit table has a column of its name, and `<name>_pre` for the
same length of time before the unit's first exposure. A ratio metric is the quotient of two such columns over all units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["mean", "ratio"]
Role = Literal["primary", "secondary", "guardrail"]
Direction = Literal["up", "down"]


@dataclass(frozen=True)
class Metric:
    """A row of the online table."""

    name: str
    title: str  # for people
    unit: str  # of the mean per unit, for people
    definition: str  # one line, for the report
    role: Role = "secondary"  # by default; an experiment may name its own primaries and guardrails
    direction: Direction = "up"  # the better one; a guardrail is tested on the other side only
    winsorised: bool = False  # at the pooled 99.9th percentile of its non-zero values; the raw value is kept beside
    numerator: str | None = None  # columns of the unit table; none for a mean metric
    denominator: str | None = None

    @property
    def kind(self) -> Kind:
        """Return whether this is a mean per unit or a ratio of two sums."""
        return "mean" if self.denominator is None else "ratio"

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the unit table that the metric reads, numerator first."""
        return (
            (self.name,) if self.numerator is None or self.denominator is None else (self.numerator, self.denominator)
        )


METRICS: Final[tuple[Metric, ...]] = (
    Metric("active_days", "Active days", "days", "local days with at least 1 s in the foreground", role="primary"),
    Metric(
        "active_hours",
        "Active hours",
        "hours",
        "local hours of a day with at least 1 s in the foreground",
    ),
    Metric(
        "stay_duration",
        "Stay duration",
        "s",
        "seconds in the foreground, sessions stitched, devices united",
        role="primary",
        winsorised=True,
    ),
    Metric(
        "playtime",
        "Playtime",
        "s",
        "seconds played, per view at most three times the time that passed",
        role="primary",
        winsorised=True,
    ),
    Metric("publish", "Publish", "items", "items that the user published"),
    Metric("play", "Play", "views", "views with a start of play"),
    Metric("valid_play", "Valid play", "views", "views played for 7 s, or for the item's length if that is shorter"),
    Metric("finish", "Finish", "views", "views played for the item's whole length"),
    Metric(
        "finish_rate", "Finish rate", "finish / play", "finished views per view", numerator="finish", denominator="play"
    ),
    Metric("like", "Like", "items", "items liked for the first time, not undone within 60 s"),
    Metric("like_rate", "Like rate", "like / play", "likes per view", numerator="like", denominator="play"),
    Metric(
        "dislike",
        "Dislike",
        "items",
        "items marked as not interesting, or reported",
        role="guardrail",
        direction="down",
    ),
    Metric("comment", "Comment", "actions", "comments, at most 20 per item", winsorised=True),
    Metric("share", "Share", "actions", "shares, at most 20 per item", winsorised=True),
    Metric("follow", "Follow", "authors", "authors followed for the first time, not undone within 60 s"),
    Metric("follow_rate", "Follow rate", "follow / play", "follows per view", numerator="follow", denominator="play"),
)
"""In the order of the table in the report."""

BY_NAME: Final[dict[str, Metric]] = {metric.name: metric for metric in METRICS}
MEANS: Final[tuple[str, ...]] = tuple(metric.name for metric in METRICS if metric.kind == "mean")
"""The columns of the unit table, which the ratios read too."""
