from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.dashboards.__main__ import BOARDS, FOLDER
from deploy.dashboards.panels import INSTANCE, Board
from deploy.dashboards.render import SOURCE, WIDTH, render
from tests.support.grafana_schema import misfits

register_default_plugins()  # so that the models read the options of each kind of panel back
PROVISIONING = FOLDER.parent / "provisioning"
each_board = pytest.mark.parametrize("board", BOARDS, ids=[board.name for board in BOARDS])


@each_board
def test_committed_dashboard_is_what_the_code_makes(board: Board) -> None:
    committed = (FOLDER / f"{board.name}.json").read_text(encoding="utf-8")
    assert committed == render(board), "run `make dashboards`"


def test_no_dashboard_is_left_over_from_another_code() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {board.name for board in BOARDS}


@each_board
def test_panels_do_not_overlap_and_have_names_of_their_own(board: Board) -> None:
    panels = json.loads(render(board))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + across, place["y"] + down) for across in range(place["w"]) for down in range(place["h"])}
        assert place["x"] + place["w"] <= WIDTH
        assert not taken & cells, panel["title"]
        taken |= cells


@each_board
def test_every_panel_asks_the_provisioned_source_and_says_what_it_shows(board: Board) -> None:
    document = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))
    assert [source["uid"] for source in document["datasources"]] == [SOURCE.uid]
    for panel in json.loads(render(board))["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == SOURCE.uid
            assert panel["description"].endswith(".")
            assert panel["targets"]


def test_grafana_is_given_the_folders_that_compose_mounts() -> None:
    compose = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text(encoding="utf-8"))
    mounted = {volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]}
    provider = yaml.safe_load((PROVISIONING / "dashboards" / "ranker.yml").read_text(encoding="utf-8"))["providers"][0]
    assert provider["options"]["path"] in mounted
    assert "/etc/grafana/provisioning" in mounted


@each_board
def test_dashboard_fits_the_types_of_grafanas_schema(board: Board) -> None:
    """The SDK's models are generated from Grafana's published schema; they drop fields that they do not know."""
    document = json.loads(render(board))
    assert misfits(Dashboard, document) == []
    read_back = json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))
    assert read_back == document


def test_a_dashboard_that_the_schema_does_not_allow_is_noticed() -> None:
    document = json.loads(render(BOARDS[0]))
    graph = next(panel for panel in document["panels"] if panel["type"] == "timeseries")
    graph["gridPos"]["w"] = "wide"
    graph["targets"][0]["interval"] = 5
    graph["options"]["legend"]["placement"] = "above"
    graph["fieldConfig"]["defaults"]["custom"]["lineWidht"] = 1
    found = misfits(Dashboard, document)
    assert sorted(place.rsplit(".", 1)[1] for place in found) == ["interval", "lineWidht", "placement", "w"]


@each_board
def test_each_variable_is_used_and_each_one_used_is_defined(board: Board) -> None:
    used = {name for _, expression in board.queries() for name in re.findall(r"\$(\w+)", expression)}
    defined = {variable["name"] for variable in json.loads(render(board))["templating"]["list"]}
    assert used - {"__rate_interval"} == defined == {variable.name for variable in board.variables}


@each_board
def test_every_selector_of_a_metric_of_the_service_follows_the_chosen_instances(board: Board) -> None:
    for title, expression in board.queries():
        for metric, matchers in re.findall(r"(?<!:)\b((?:ranker|process)_\w+)(?:\{([^}]*)\})?", expression):
            if (
                not metric.startswith(("ranker_sink_", "ranker_report_", "ranker_guard_"))
                and f":{metric}:" not in expression
            ):
                assert INSTANCE in matchers, (title, metric)


def test_panels_link_to_the_runbooks_of_alerts() -> None:
    linked = {link["url"] for board in BOARDS for panel in json.loads(render(board))["panels"] for link in links(panel)}
    alerts = {alert for board in BOARDS for panel in board.panels() for alert in panel.runbook}
    assert {url.partition("#")[2] for url in linked} == {alert.lower() for alert in alerts}
    assert len(alerts) > 30


def links(panel: dict[str, Any]) -> list[dict[str, Any]]:
    return panel.get("links") or []
