from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from analysis.sink.reports import MAX_BYTES, MAX_REPORTS, MAX_ROWS, STATES, Reports
from analysis.verdict.gates import State

ESTIMATE = {"lift": 0.02, "lift_low": 0.01, "lift_high": 0.03}


def row(**changes: Any) -> dict[str, Any]:
    return {
        "metric": "playtime",
        "arm": "treatment",
        "role": "primary",
        "estimate": ESTIMATE,
        "sequential": None,
        **changes,
    }


def document(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "experiment": "e",
        "simulated": False,
        "verdict": {"kind": "better", "readable": True},
        "arms": [{"arm": "control", "exposed": 9, "analysed": 8}],
        "gates": [{"state": "pass"}, {"state": "pass"}, {"state": "warn"}],
        "rows": [row()],
        **changes,
    }


def write(folder: Path, content: Any, written: float = 1_000_000) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    os.utime(path, (written, written))


def scraped(folder: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Reports(folder))
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


LIFT = 'ranker_report_lift{arm="treatment",bound="%s",experiment="e",metric="playtime",role="primary"}'


def test_a_report_becomes_gauges(tmp_path: Path) -> None:
    write(tmp_path / "e", document())
    assert scraped(tmp_path) == {
        'ranker_report_info{experiment="e",simulated="false",verdict="better"}': 1,
        'ranker_report_timestamp_seconds{experiment="e"}': 1_000_000,
        'ranker_report_users{arm="control",experiment="e",state="exposed"}': 9,
        'ranker_report_users{arm="control",experiment="e",state="analysed"}': 8,
        'ranker_report_gates{experiment="e",state="pass"}': 2,
        'ranker_report_gates{experiment="e",state="warn"}': 1,
        'ranker_report_gates{experiment="e",state="block"}': 0,
        'ranker_report_gates{experiment="e",state="unknown"}': 0,
        LIFT % "low": 0.01,
        LIFT % "point": 0.02,
        LIFT % "high": 0.03,
        "ranker_report_unreadable": 0,
    }


def test_the_states_are_those_of_the_gates() -> None:
    assert get_args(State) == STATES


def test_an_early_reading_has_the_interval_that_is_valid_at_every_reading(tmp_path: Path) -> None:
    write(tmp_path, document(rows=[row(sequential={"lift_low": -0.1, "lift_high": 0.2})]))
    found = scraped(tmp_path)
    assert [found[LIFT % bound] for bound in ("low", "point", "high")] == [-0.1, 0.02, 0.2]


def test_no_lift_is_exported_that_must_not_be_read(tmp_path: Path) -> None:
    write(tmp_path / "a", document(verdict={"kind": "not_readable", "readable": False}))
    write(tmp_path / "b", document(experiment="f", rows=[row(estimate=None)]))
    assert not [name for name in scraped(tmp_path) if name.startswith("ranker_report_lift")]


def test_the_newest_report_of_an_experiment_counts(tmp_path: Path) -> None:
    write(tmp_path / "old", document(verdict={"kind": "worse", "readable": True}), written=1)
    write(tmp_path / "new", document(), written=2)
    assert [name for name in scraped(tmp_path) if "info" in name] == [
        'ranker_report_info{experiment="e",simulated="false",verdict="better"}'
    ]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "{", '{"schema": 2}', json.dumps(document(arms=None)), json.dumps(document(rows=[{}]))],
)
def test_a_file_that_is_no_report_is_counted_and_spares_the_others(tmp_path: Path, content: str) -> None:
    write(tmp_path / "bad", content)
    write(tmp_path / "good", document())
    found = scraped(tmp_path)
    assert found["ranker_report_unreadable"] == 1
    assert LIFT % "point" in found


def test_what_is_exported_is_bounded(tmp_path: Path) -> None:
    write(tmp_path / "large", " " * (MAX_BYTES + 1))
    for number in range(MAX_REPORTS + 5):
        rows = [row(metric=f"m{place}" * 200) for place in range(MAX_ROWS + 5)]
        write(tmp_path / f"e{number}", document(experiment=f"e{number}", rows=rows), written=number)
    found = scraped(tmp_path)
    assert len(found) < 5_000
    assert max(map(len, found)) < 400
    assert sum("_info{" in name for name in found) == MAX_REPORTS - 1


def test_half_a_character_in_a_name_does_not_end_the_scrape(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(document(experiment="\ud800")))
    assert 'ranker_report_timestamp_seconds{experiment="?"}' in scraped(tmp_path)


def test_a_folder_that_does_not_exist_yet_has_no_reports(tmp_path: Path) -> None:
    assert scraped(tmp_path / "later") == {"ranker_report_unreadable": 0}
