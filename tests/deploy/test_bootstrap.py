from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.compose import bootstrap
from deploy.processes import StepError
from deploy.releases import Places


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The options with which data were prepared; without a folder it is the generated catalogue."""
    asked: list[Sequence[str]] = []

    def prepare(places: Places, options: Sequence[str] = ()) -> Places:
        asked.append(options)
        return places if options else replace(places, dataset="generated")

    monkeypatch.setattr(bootstrap, "prepare", prepare)
    monkeypatch.setattr(bootstrap, "release", lambda *_arguments: [])
    return asked


def _release(tmp_path: Path) -> int:
    places = ("datasets", "work", "releases")
    return bootstrap.main(["release", *(f"--{place}={tmp_path / place}" for place in places)])


def test_mounted_data_set_is_the_one_prepared(tmp_path: Path, prepared: list[Sequence[str]]) -> None:
    (tmp_path / "datasets" / bootstrap.DATASET).mkdir(parents=True)
    (tmp_path / "work").mkdir()
    assert _release(tmp_path) == 0
    assert prepared == [("--data", str(tmp_path / "datasets"))]
    assert json.loads((tmp_path / "work" / "dataset.json").read_text()) == {"dataset": "ml-100k"}


def test_empty_folder_that_docker_made_is_no_data_set(
    tmp_path: Path, prepared: list[Sequence[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("datasets", "work"):
        (tmp_path / name).mkdir()
    assert _release(tmp_path) == 0
    assert prepared == [()]
    assert "looking elsewhere" in capsys.readouterr().out


def test_experiments_are_written_once_both_arms_are_there(tmp_path: Path, prepared: list[Sequence[str]]) -> None:
    (tmp_path / "work").mkdir()
    assert _release(tmp_path) == 0
    assert prepared
    assert (tmp_path / "releases" / "experiments.yaml").is_file()


@pytest.mark.parametrize("name", ["ml-100k", "generated"])
def test_behaviours_of_what_was_prepared_go_through_the_service(
    name: str, tmp_path: Path, prepared: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    if name == "ml-100k":
        (tmp_path / "datasets" / name).mkdir(parents=True)
    ran: list[Sequence[str]] = []
    monkeypatch.setattr(bootstrap, "run_step", ran.append)
    assert _release(tmp_path) == 0
    assert bootstrap.main(["behaviours", f"--work={tmp_path / 'work'}", "--url=http://rank:8000"]) == 0
    file = tmp_path / "work" / "data" / name / "behaviours.csv"
    assert bootstrap.main(["behaviours", f"--work={tmp_path / 'work'}", "--key-file=/run/secrets/key"]) == 0
    assert ran == [
        ("service.seed", str(file), "--url", "http://rank:8000"),
        ("service.seed", str(file), "--url", "http://127.0.0.1:8000", "--key-file", "/run/secrets/key"),
    ]


def test_step_that_fails_ends_the_container_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(*_: object) -> Places:
        raise StepError("python -m training prepare failed with status 3")

    monkeypatch.setattr(bootstrap, "prepare", prepare)
    assert _release(tmp_path) == 1
    assert "failed with status 3" in capsys.readouterr().err
