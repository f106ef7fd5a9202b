"""The value of a holdout, from the exposures that the service writes: a planted effect is found."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from analysis.commands.report import add_arguments, report_of
from analysis.sink.events import EXPOSURES, Reader
from contract.experiments.assignment import snapshot_of
from service.experiments.exposures import Exposures, Outcome
from tests.support.event_tables import DAY, T0, Events, write_rows
from tests.support.experiment_data import end_data, plan, visit

HOLDOUT = {"salt": "held-2026a", "buckets": [[0, 1_000], [9_500, 10_000]]}


class Rows:
    """A sink of exposures, as the sink of the streams makes rows of them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._reader = Reader(EXPOSURES)

    def offer(self, event: bytes, labels: tuple[str, ...] = (), receipt: object = None) -> bool:
        self.rows.append(self._reader.row(event))
        return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users of whom those in experiments play 30% longer; one week before and one after their first ranking."""
    folder, rng, events, rows = tmp_path_factory.mktemp("holdout"), np.random.default_rng(5), Events(), Rows()
    document = {**plan(), "holdout": HOLDOUT}
    (folder / "plan.yaml").write_text(yaml.safe_dump(document))
    snapshot, exposures = snapshot_of(document), Exposures(rows, on_exposure=lambda *_: None)
    for unit in (f"user-{place}" for place in range(1_800)):
        first = T0 + int(rng.integers(DAY // 2))
        decision = snapshot.decide(unit, {}, T0)
        exposures.record(decision, Outcome(f"r-{unit}", first, "ok", "mgnm", "1", 10, 10))
        taste, longer = rng.gamma(3, 1 / 3), 1.0 if decision.layers[0].arm is None else 1.3
        for day in range(-7, 7) if decision.holdout is not None else ():
            visit(events, rng, unit, first + day * DAY, taste * (longer if day >= 0 else 1.0))
    end_data(events, T0 + 9 * DAY)
    write_rows(folder / "data", "exposures", rows.rows)
    write_rows(folder / "data", "activity", events.rows)
    return folder


def report(folder: Path, experiment: str, *options: str) -> dict[str, Any]:
    """The content of report.json; the page, with its pictures, is tested in test_report.py."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    where = ["--data", str(folder / "data"), "--out", str(folder / "out"), "--window", "7"]
    given = parser.parse_args([experiment, *where, "--experiments", str(folder / "plan.yaml"), *options])
    return dict(report_of(given).as_json())


def test_the_planted_value_of_all_experiments_is_found(folder: Path) -> None:
    found = report(folder, "_holdout")
    sizes = {arm["arm"]: arm["exposed"] for arm in found["arms"]}
    assert set(sizes) == {"held_out", "measured"}
    assert min(sizes.values()) > 200
    states = {gate["key"]: gate["state"] for gate in found["gates"]}
    assert "block" not in states.values()
    assert (states["sample_ratio"], states["assignment"]) == ("pass", "pass")
    playtime = next(row for row in found["rows"] if row["metric"] == "playtime")
    assert (playtime["arm"], found["control"]) == ("measured", "held_out")
    assert 0 < playtime["estimate"]["lift_low"] < 0.3 < playtime["estimate"]["lift_high"]


def test_a_file_with_another_holdout_blocks_the_report(folder: Path, tmp_path: Path) -> None:
    other = {**plan(), "holdout": {**HOLDOUT, "buckets": [[0, 900], [9_400, 10_000]]}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(other))
    found = report(folder, "_holdout", "--experiments", str(tmp_path / "plan.yaml"))
    assert {gate["key"]: gate["state"] for gate in found["gates"]}["assignment"] == "block"
