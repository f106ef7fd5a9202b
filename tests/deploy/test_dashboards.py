from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from deploy.dashboards.__main__ import BOARDS, FOLDER
from deploy.dashboards.panels import Board
from deploy.dashboards.render import SOURCE, WIDTH, render

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
