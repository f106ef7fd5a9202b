"""`python -m analysis report` over Parquet of simulated users whom the real hash has assigned."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analysis.__main__ import main
from analysis.commands.report import add_arguments, report_of
from analysis.report.build import CAUSES
from analysis.units.events import Fault
from tests.support.event_tables import T0, write_rows
from tests.support.experiment_data import EXPERIMENT, write_data, write_plan


@dataclass(frozen=True)
class Page:
    """The files of a report."""

    found: dict[str, Any]
    html: str
    markdown: str


NAMES = ("report.json", "report.md", "report.html")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and plans."""
    folder = tmp_path_factory.mktemp("experiment")
    write_data(folder / "data", 400)
    write_plan(folder / "plan.yaml")
    write_plan(folder / "aa.yaml", "aa")
    write_plan(folder / "uneven.yaml", shares=(7_000, 3_000))
    return folder


@pytest.fixture(scope="module")
def good(made: Path) -> dict[str, Any]:
    """The report of the data as they are, in the folder `good`."""
    return report(made, "--threads", "4", out="good")


@pytest.fixture(scope="module")
def odd(made: Path) -> Page:
    """The page of data of no real users, without a ranking log, before the planned end."""
    folder = made.with_name("odd")
    shutil.copytree(made / "data", folder / "data", ignore=shutil.ignore_patterns("rankings"))
    shutil.copy(made / "plan.yaml", folder)
    (folder / "data" / "SIMULATED").touch()
    found = report(folder, "--planned", "2000")
    return Page(found, page(folder), (folder / "out" / "report.md").read_text())


@pytest.fixture(scope="module")
def blocked(made: Path) -> Page:
    """The page of units that are not shared as planned, whose configuration is hostile text."""
    folder = made.with_name("blocked")
    shutil.copytree(made, folder)
    path = folder / "data" / "exposures" / "date=2026-01-01" / "0.parquet"
    hostile = "<script>alert(1)</script>|*x*"
    rows = [{**row, "cfg": hostile, "exp_salt": hostile} for row in pq.read_table(path).to_pylist()]
    write_rows(folder / "data", "exposures", rows)
    found = report(folder, plan="uneven.yaml")
    return Page(found, page(folder), (folder / "out" / "report.md").read_text())


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(made, tmp_path / "world")
    return tmp_path / "world"


def report(folder: Path, *options: str, out: str = "out", plan: str | None = "plan.yaml") -> dict[str, Any]:
    """Run the command in this process; returns report.json."""
    assert main(["report", *arguments(folder, *options, out=out, plan=plan)]) == 0
    found: dict[str, Any] = json.loads((folder / out / "report.json").read_text())
    return found


def findings(folder: Path, *options: str, plan: str | None = "plan.yaml") -> dict[str, Any]:
    """The content of report.json, without the page: its pictures take half of a report's time."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    report = report_of(parser.parse_args(arguments(folder, *options, plan=plan)))
    found: dict[str, Any] = json.loads(json.dumps(report.as_json(), allow_nan=False))
    return found


def arguments(folder: Path, *options: str, out: str = "out", plan: str | None = "plan.yaml") -> list[str]:
    planned = ["--experiments", str(folder / plan)] if plan else []
    planned += ["--threads", "1"]  # takes the least processor time; a later option overrides it
    return [EXPERIMENT, "--data", str(folder / "data"), "--out", str(folder / out), "--window", "7", *planned, *options]


def gate(found: dict[str, Any], key: str) -> dict[str, str]:
    (one,) = [gate for gate in found["gates"] if gate["key"] == key]
    return one


def page(folder: Path, out: str = "out") -> str:
    return (folder / out / "report.html").read_text(encoding="utf-8")


def test_a_planted_lift_is_found_with_all_gates_passed(good: dict[str, Any]) -> None:
    found = good
    assert found["verdict"]["kind"] == "better"
    assert found["verdict"]["sentence"].startswith("treatment is better than control: playtime +")
    assert [one["state"] for one in found["gates"]] == ["pass"] * 8
    playtime = next(row for row in found["rows"] if row["metric"] == "playtime")
    assert playtime["role"] == "primary"
    assert playtime["estimate"]["variance_kept"] < 0.9
    assert found["not_computed"] == ["latency_ms_p99"]
    assert not found["simulated"]
    assert sum(arm["analysed"] for arm in found["arms"]) == 400


@pytest.mark.usefixtures("good")
def test_the_report_is_equal_byte_for_byte_over_runs_and_threads(made: Path) -> None:
    report(made, "--threads", "1", out="again")
    for name in NAMES:
        assert (made / "good" / name).read_bytes() == (made / "again" / name).read_bytes()


def test_files_in_another_order_give_the_same_report(world: Path, good: dict[str, Any]) -> None:
    path = world / "data" / "activity" / "date=2026-01-01" / "0.parquet"
    table = pq.read_table(path)
    half = table.num_rows // 2
    pq.write_table(table.slice(half), path.with_name("1.parquet"))
    pq.write_table(table.slice(0, half + 500), path.with_name("2.parquet"))  # 500 rows twice
    path.unlink()
    found = findings(world)
    assert found["rows"] == good["rows"]
    assert found["days"] == good["days"]


@pytest.mark.usefixtures("good")
def test_the_page_is_one_file_without_scripts_and_without_requests(made: Path) -> None:
    text = page(made, "good")
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=\"(?!#)", text)
    assert "@import" not in text
    assert "url(http" not in text
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert text.count("<svg") == 4  # a broad and a narrow forest, and two primary metrics by day
    assert "prefers-color-scheme: dark" in text


class Tags(HTMLParser):
    """Remembers the tags that are still open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass


def test_events_that_are_not_counted_are_counted_by_cause_and_arm(world: Path) -> None:
    path = world / "data" / "activity" / "date=2026-01-01" / "0.parquet"
    rows = pq.read_table(path).to_pylist()
    spoilt = [row for row in rows if row["unit"] == "user-1" and row["ts"] > T0 + 86_400_000][:3]
    spoilt[0]["type"], spoilt[1]["received"] = "dance", spoilt[1]["ts"] + 6 * 86_400_000
    write_rows(world / "data", "activity", [*rows, spoilt[2]])
    shown = {fact["name"]: fact["value"] for fact in findings(world)["facts"]}
    assert shown["Events not counted: unknown type"] == 1
    assert shown["Events not counted: arrived after the third day"] == 1
    assert shown["Events not counted: time more than a day after arrival"] == 0
    assert shown["Rows left out: repeated"] == 1


def test_every_cause_of_the_analysis_has_words() -> None:
    assert {fault.name.lower() for fault in Fault if fault} == set(CAUSES)


def test_a_sample_ratio_mismatch_blanks_the_verdict_and_hides_the_lifts(blocked: Page) -> None:
    found = blocked.found
    assert found["verdict"] == {
        "kind": "not_readable",
        "sentence": found["verdict"]["sentence"],
        "readable": False,
    }
    assert "Sample ratio" in found["verdict"]["sentence"]
    assert gate(found, "assignment")["state"] == "block"  # and the buckets do not match the file
    assert "<details" in blocked.html
    assert "| Playtime" not in blocked.markdown


def test_without_a_plan_the_verdict_is_not_readable(world: Path) -> None:
    found = findings(world, plan=None)
    assert found["verdict"]["kind"] == "not_readable"
    assert "give --experiments FILE or --shares" in found["verdict"]["sentence"]
    shared = findings(world, "--shares", "control=1,treatment=1", plan=None)
    assert shared["verdict"]["kind"] == "better"
    assert gate(shared, "assignment")["state"] == "unknown"
    other = findings(world, "--shares", "control=1,variant=1", plan=None)
    assert "arms that the plan does not have: treatment" in gate(other, "assignment")["finding"]


def test_an_early_reading_uses_the_sequence(odd: Page) -> None:
    found = odd.found
    assert found["early"]
    assert found["verdict"]["sentence"].startswith("Simulated data, early reading: ")
    playtime = next(row for row in found["rows"] if row["metric"] == "playtime")
    assert playtime["sequential"]["planned"] == 2_000
    assert playtime["sequential"]["lift_low"] < playtime["estimate"]["lift_low"]
    assert "at any reading" in odd.html


def test_data_of_no_real_users_are_marked_at_every_number(odd: Page) -> None:
    found, text = odd.found, odd.html
    assert found["simulated"]
    assert found["verdict"]["sentence"].startswith("Simulated data, ")
    chip = '<span class="chip simulated">simulated</span>'
    sections = re.findall(r"<h2>(Health gates|Lifts|All metrics|Lift by day since exposure|Data)(.*?)</h2>", text)
    assert len(sections) == 5
    assert all(mark == chip for _, mark in sections)
    assert "(simulated)" in odd.markdown


def test_identical_arms_that_differ_are_named_as_such(world: Path) -> None:
    found = findings(world, plan="aa.yaml")
    assert "are served alike but differ" in found["verdict"]["sentence"]


def test_text_of_the_data_is_never_markup(blocked: Page) -> None:
    text = blocked.markdown
    assert gate(blocked.found, "assignment")["state"] == "block"
    assert "<script" not in blocked.html
    assert "&lt;script&gt;alert(1)" in blocked.html
    assert "<script" not in text.replace("\\<script", "")
    assert "\\|\\*x\\*" in text


def test_exposures_that_are_lost_in_one_arm_are_found_in_the_ranking_log(world: Path) -> None:
    path = world / "data" / "exposures" / "date=2026-01-01" / "0.parquet"
    rows = pq.read_table(path).to_pylist()
    kept = [row for place, row in enumerate(rows) if row["arm"] == "control" or place % 10]
    write_rows(world / "data", "exposures", kept)
    found = findings(world)
    assert gate(found, "exposure_loss")["state"] == "block"
    assert "treatment" in gate(found, "exposure_loss")["finding"]


def test_without_a_ranking_log_the_page_shows_what_is_not_known(odd: Page) -> None:
    found = odd.found
    assert gate(found, "exposure_loss")["state"] == "unknown"
    assert gate(found, "sample_ratio_by_platform")["state"] == "unknown"
    assert gate(found, "outcomes")["state"] == "pass"  # exposures have outcomes too
    assert found["verdict"]["kind"] == "better"


def test_windows_that_are_not_complete_give_no_verdict(world: Path) -> None:
    found = report(world, "--until", str(T0 + 3 * 86_400_000))
    assert found["verdict"]["kind"] == "not_readable"
    assert "too few units" in found["verdict"]["sentence"]
    assert all(row["estimate"] is None for row in found["rows"])


def test_versions_that_an_arm_served_are_told(world: Path) -> None:
    path = world / "data" / "exposures" / "date=2026-01-01" / "0.parquet"
    rows = pq.read_table(path).to_pylist()
    middle = sorted(row["ts"] for row in rows)[len(rows) // 4]
    moved = [{**row, "ver": "2"} if row["arm"] != "control" and row["ts"] >= middle else row for row in rows]
    write_rows(world / "data", "exposures", moved)
    found = findings(world)
    arms = [(one["arm"], one["version"]) for one in found["versions"]]
    assert arms == [("control", "1"), ("treatment", "1"), ("treatment", "2")]
    assert gate(found, "versions")["state"] == "pass"  # the exposures end less than two days after the change
    assert any(fact["name"] == "Versions served" and "@2 from" in fact["shown"] for fact in found["facts"])
    assert found["verdict"]["kind"] == "better"
