"""`python -m analysis interleave` over Parquet of simulated users."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.__main__ import main
from tests.support.event_tables import write_rows
from tests.support.interleaved_users import simulated


def test_the_command_prints_the_finding_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    rankings, activity = simulated(400, (0.6, 0.2), seed=3)
    write_rows(data, "rankings", rankings)
    write_rows(data, "activity", activity)
    where = ["interleave", "e", "--data", str(data)]
    assert main([*where, "--out", str(out), "--threads", "1"]) == 0
    text = (out / "interleaving.md").read_text()
    assert capsys.readouterr().out == text
    found = json.loads((out / "interleaving.json").read_text())
    assert found["kind"] == "better"
    assert found["sentence"].startswith("Users prefer treatment to control: valid play credit +0.")
    assert [(row["credit"], row["role"]) for row in found["rows"]] == [
        ("valid_play", "primary"), ("finish", "secondary"), ("like", "secondary"),
    ]  # fmt: skip
    assert found["rows"][0]["low"] > 0
    assert found["sentence"] in text
    assert "simulated" not in text
    assert main([*where, "--credit", "like", "--simulated", "--threads", "2"]) == 0
    liked = capsys.readouterr().out
    assert "Not readable" in liked
    assert "All numbers are simulated." in liked
    assert main([*where, "--out", str(tmp_path / "again"), "--threads", "2"]) == 0
    assert (tmp_path / "again" / "interleaving.json").read_bytes() == (out / "interleaving.json").read_bytes()
