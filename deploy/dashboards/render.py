"""Renders a dashboard as JSON with Grafana's SDK, whose types refuse unknown fields."""

from __future__ import annotations

import json
from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.dashboards.panels import Board, Panel, Variable
from deploy.dashboards.runbooks import runbook

SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTH = 24


def render(board: Board) -> str:
    """Return the JSON of a dashboard, for Grafana 11."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(f"ranker-{board.name}")
        .description(board.shows)
        .tags(["ranker"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("10s")
        .link(dashboard.DashboardLink("Ranker").tags(["ranker"]).as_dropdown(False).keep_time(True).include_vars(True))
    )
    for variable in board.variables:
        builder = builder.with_variable(_variable(variable))
    number = 0
    for row in board.rows:
        number += 1
        builder = builder.with_row(dashboard.Row(row.title).id(number))
        for panel, span in zip(row.panels, _spans(row.panels), strict=True):
            number += 1
            builder = builder.with_panel(_build(panel).id(number).span(span))
    return json.dumps(builder.build(), cls=JSONEncoder, indent=2) + "\n"


def _variable(variable: Variable) -> dashboard.QueryVariable:
    every = VariableOption(selected=True, text="All", value="$__all")
    built = dashboard.QueryVariable(variable.name).label(variable.name).description(variable.shows)
    built = built.datasource(SOURCE).query(variable.query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return built.sort(VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True).all_value(".*").current(every)


def _runbooks(panel: Panel) -> list[dashboard.DashboardLink]:
    return [
        dashboard.DashboardLink(f"Runbook: {alert}").type(DashboardLinkType.LINK).url(runbook(alert)).target_blank(True)
        for alert in panel.runbook
    ]


def _spans(panels: Sequence[Panel]) -> list[int]:
    """Share the width of a row out to the last column."""
    narrow, wider = divmod(WIDTH, len(panels))
    return [narrow + (place < wider) for place in range(len(panels))]


def _build(panel: Panel) -> timeseries.Panel | stat.Panel:
    built = _graph(panel) if panel.kind == "graph" else _number(panel)
    built = built.title(panel.title).description(panel.shows).datasource(SOURCE).unit(panel.unit)
    if panel.runbook:
        built = built.links(list(_runbooks(panel)))
    if not panel.signed:
        built = built.min(0)
    if panel.top is not None:
        built = built.max(panel.top)
    for place, query in enumerate(panel.queries):
        target = prometheus.Dataquery().ref_id(chr(ord("A") + place)).expr(query.expression).legend_format(query.legend)
        built = built.with_target(target.range() if panel.kind == "graph" else target.instant())
    return built


def _graph(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(options.LegendDisplayMode.LIST).show_legend(True).calcs([])
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
    built = timeseries.Panel().height(8).line_width(1).fill_opacity(8).show_points(options.VisibilityMode.NEVER)
    return built.legend(legend.placement(options.LegendPlacement.BOTTOM)).tooltip(tooltip)


def _number(panel: Panel) -> stat.Panel:
    names = panel.kind == "names"
    text = options.BigValueTextMode.NAME if names else options.BigValueTextMode.AUTO
    built = stat.Panel().height(5).text_mode(text).graph_mode(options.BigValueGraphMode.NONE)
    return built.color_mode(options.BigValueColorMode.NONE).reduce_options(
        common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    )
