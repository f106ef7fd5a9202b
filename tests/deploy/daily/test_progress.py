"""The daily loop shows its step and the time left to a person, from what the steps took before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.daily.commands import Processes
from deploy.daily.progress import Shown, expected_seconds

STEPS = ("prepare", "train", "export")


@pytest.fixture(autouse=True)
def all_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contract.progress.PLAIN_SECONDS", 0.0)


def test_the_time_left_follows_the_newest_day_that_took_all_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, now = tmp_path / "log.jsonl", [0.0]
    whole = {"prepare": 10.0, "train": 80.0, "export": 10.0}
    log.write_text("".join(json.dumps({"seconds": one}) + "\n" for one in ({}, whole, {"prepare": 3})) + "torn")
    with Shown(STEPS, expected_seconds(log, STEPS), quiet=False, clock=lambda: now[0]) as shown:
        for second, step in ((0.0, "prepare"), (10.0, "train"), (50.0, None)):
            now[0] = second
            shown.tick() if step is None else shown.step(step)
    assert capsys.readouterr().err.splitlines() == [
        "daily  1/3 prepare  0%  0 s",
        "daily  2/3 train  10%  10 s, 1 min 30 s left",
        "daily  2/3 train  50%  50 s, 50 s left",
    ]


def test_on_the_first_day_the_steps_count_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected_seconds(tmp_path / "log.jsonl", STEPS) == {}
    with Shown(STEPS, {}, quiet=False) as shown:
        shown.step("train")
    assert capsys.readouterr().err.startswith("daily  2/3 train  33%")


def test_a_command_that_runs_long_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.daily.commands._TICK_SECONDS", 0.001)
    ticks: list[int] = []
    run = Processes(tmp_path / "log", lambda: ticks.append(1))
    assert run("json.tool", given="[1]").split() == ["[", "1", "]"]
    assert ticks
