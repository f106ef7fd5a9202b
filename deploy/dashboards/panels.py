"""The parts of a dashboard, and the queries that its panels share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

RANK = 'route="/rank"'

# Matchers for the variables at the top of a board; "All" is the pattern `.*`.
INSTANCE = 'instance=~"$instance"'
OF_EXPERIMENT = 'experiment=~"$experiment"'
VARIANT = 'variant=~"$experiment:.*|none"'  # of the experiments, or of no experiment
MODEL = 'bundle=~"$model@.*"'


class Variable(NamedTuple):
    """A list at the top of a board: the values of a label."""

    name: str
    metric: str
    shows: str

    @property
    def query(self) -> str:
        """Return Grafana's query for the values."""
        return f"label_values({self.metric}, {self.name})"


INSTANCES = Variable("instance", "ranker_ready", "Processes or pods of the service.")
EXPERIMENTS = Variable("experiment", "ranker_experiment_arm_share", "Running experiments.")
MODELS = Variable("model", "ranker_bundle_info", "Models of the loaded bundles.")


class Query(NamedTuple):
    """One PromQL expression and the name of its series; braces name labels, as in Grafana."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """A graph over time, or a number (`stat`), or a list of names (`names`)."""

    title: str
    shows: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Literal["graph", "stat", "names"] = "graph"
    top: float | None = None  # the largest possible value, if there is one
    runbook: tuple[str, ...] = ()  # alerts on what the panel shows
    signed: bool = False  # values may be below 0


class Row(NamedTuple):
    """Panels that share one line of the dashboard's width."""

    title: str
    panels: tuple[Panel, ...]


class Board(NamedTuple):
    """One dashboard."""

    name: str
    title: str
    shows: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()

    def panels(self) -> Iterator[Panel]:
        """Yield every panel."""
        for row in self.rows:
            yield from row.panels

    def queries(self) -> Iterator[tuple[str, str]]:
        """Yield the title of a panel and an expression of it, for every query."""
        for panel in self.panels():
            for query in panel.queries:
                yield panel.title, query.expression


def of_service(metric: str, *matchers: str) -> str:
    """Return a selector of the chosen instances."""
    return f"{metric}{{{', '.join((*matchers, INSTANCE))}}}"


def rate(metric: str, by: str, *matchers: str) -> str:
    """Return the per-second rate of a counter of the chosen instances, summed by labels."""
    return f"sum by ({by}) (rate({of_service(metric, *matchers)}[$__rate_interval]))"


def total(metric: str, *matchers: str) -> str:
    """Return the per-second rate of a counter of the chosen instances, summed over everything."""
    return f"sum (rate({of_service(metric, *matchers)}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str = "", *matchers: str) -> str:
    """Return a quantile of a histogram, by labels."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', labels, *matchers)})"


def one(expression: str, legend: str) -> tuple[Query, ...]:
    """Return the query of a panel with one query."""
    return (Query(expression, legend),)


def percentiles(histogram: str, *matchers: str) -> tuple[Query, ...]:
    """Return p50, p95 and p99 of a histogram, as three queries of one panel."""
    return tuple(
        Query(quantile(share, histogram, "", *matchers), name)
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


def latencies(title: str, histogram: str, by: str, *matchers: str) -> tuple[Panel, ...]:
    """Return p50, p95 and p99 of a histogram by a label, as one panel each."""
    return tuple(
        Panel(
            f"{title}, {name}",
            shows,
            one(quantile(share, histogram, by, *matchers), f"{{{{{by}}}}}"),
            "s",
            runbook=("RankerSlow",),
        )
        for share, name, shows in (
            (0.5, "p50", "Half of the answers took no longer."),
            (0.95, "p95", "One answer in 20 took longer."),
            (0.99, "p99", "One answer in 100 took longer."),
        )
    )


def burn(title: str, expression: str, legend: str, alert: str) -> Panel:
    """Return a panel of how fast an objective's error budget was spent in the last hour, over all instances."""
    return Panel(title, "Burn rate of the last hour.", one(expression, legend), runbook=(alert,))


def zero_where_none(part: str, whole: str) -> str:
    """Return a ratio that is 0, and not absent, while the part has never been counted."""
    return f"({part} or {whole} * 0) / {whole}"
