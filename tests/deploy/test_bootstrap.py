from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy import bootstrap


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that were run, each ending well."""
    ran: list[list[str]] = []

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        ran.append(command[2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    monkeypatch.setattr(bootstrap, "release", lambda *_arguments: [])
    return ran


def _release(tmp_path: Path) -> int:
    places = ("datasets", "work", "releases")
    return bootstrap.main(["release", *(f"--{place}={tmp_path / place}" for place in places)])


def test_mounted_data_set_is_the_one_prepared(tmp_path: Path, commands: list[list[str]]) -> None:
    (tmp_path / "datasets" / bootstrap.DATASET).mkdir(parents=True)
    assert _release(tmp_path) == 0
    assert commands[0][-2:] == ["--data", str(tmp_path / "datasets")]


def test_empty_folder_that_docker_made_is_no_data_set(
    tmp_path: Path, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "datasets").mkdir()
    assert _release(tmp_path) == 0
    assert "--data" not in commands[0]
    assert "looking elsewhere" in capsys.readouterr().out


def test_experiments_are_written_once_both_arms_are_there(tmp_path: Path, commands: list[list[str]]) -> None:
    assert _release(tmp_path) == 0
    assert commands
    assert (tmp_path / "releases" / "experiments.yaml").is_file()


def test_behaviours_go_through_the_service(tmp_path: Path, commands: list[list[str]]) -> None:
    assert bootstrap.main(["behaviours", f"--work={tmp_path}", "--url=http://rank:8000"]) == 0
    file = tmp_path / "data" / bootstrap.DATASET / "behaviours.csv"
    assert commands == [["service.seed", str(file), "--url", "http://rank:8000"]]


def test_step_that_fails_ends_the_container_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.CalledProcessError(3, command)

    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    assert _release(tmp_path) == 1
    assert "failed with status 3" in capsys.readouterr().err
