"""A command line that gets a file of another kind: one line that names it, status 1, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import analysis as report_bench
from benchmarks import catalogue
from benchmarks.load import __main__ as bench
from benchmarks.load import compare, greedy, offer
from benchmarks.peers import __main__ as peers
from benchmarks.tables import __main__ as tables
from deploy.scoring import __main__ as scoring
from exporter import check
from service.access import __main__ as access
from service.replay import __main__ as replay
from service.seed import __main__ as seed
from tests.support.builders import TinyModel
from tests.support.command_lines import KINDS, spoilt
from training import __main__ as training

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "command",
    [
        "prepare",
        "mapping",
        "train",
        "check",
        "replay",
        "seed",
        "access",
        "offer",
        "greedy",
        "compare",
        "bench",
        "peers",
        "tables",
        "catalogue",
        "scoring",
    ],
)
def test_a_file_that_is_no_such_file_is_one_line_that_names_it(
    command: str, kind: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    name = {
        "mapping": "names.toml",
        "train": "recipe.toml",
        "check": "recipe.toml",
        "tables": "plan.toml",
        "catalogue": "recipe.toml",
    }.get(command, "clips.csv")
    path, out = spoilt(tmp_path / name, kind), tmp_path / "out"
    log = tmp_path / "log.csv"
    log.write_text("uid,item,timestamp\nu,i,1700000000\n")
    lines: dict[str, tuple[object, ...]] = {
        "prepare": (training.main, "prepare", path, "--out", out),
        "mapping": (training.main, "prepare", log, "--mapping", path, "--out", out),
        "train": (training.main, "train", path, "--out", out),
        "check": (check.main, path),
        "replay": (replay.main, path, "--bundles", out),
        "seed": (seed.main, path),
        "access": (access.main, "check", path),
        "compare": (compare.main, "--base", ROOT, "--new", ROOT, "--behaviours", path),
        "bench": (bench.main, "--behaviours", path, "--out", out),
        "peers": (peers.main, "--behaviours", path, "--out", out),
        "offer": (offer.main, "--behaviours", path, "--seconds", "0.1"),
        "greedy": (greedy.main, "--behaviours", path, "--seconds", "0.1"),
        "tables": (tables.main, path, "--results", out, "--runs", out, "--data", out),
        "catalogue": (catalogue.main, "--recipe", path, "--items", "9", "--out", out),
        "scoring": (scoring.main, TinyModel().write(tmp_path / "bundles"), path, "--out", out / "lists"),
    }
    named = log.name if (command, kind) == ("mapping", "empty") else path.name  # an empty mapping names nothing
    assert named in refused(*lines[command])
    assert not out.exists() or not any(out.rglob("*"))


@pytest.mark.parametrize("name", ["clips.txt", "my clips.csv", "netflix"])
def test_a_data_set_of_another_name_is_refused(name: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / name).write_text("user,item,timestamp\na,b,1700000000\n")
    refused(training.main, "prepare", tmp_path / name if "." in name else name, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("content", "words"), [(None, "has no EVENTS"), ("many", "damaged"), ("5 70", "has 5 users")])
def test_a_measurement_of_the_report_on_other_data_is_one_line(
    content: str | None, words: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    if content is not None:
        (tmp_path / "EVENTS").write_text(content)
    assert words in refused(report_bench.main, "--data", tmp_path, "--users", 10, "--out", tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()
