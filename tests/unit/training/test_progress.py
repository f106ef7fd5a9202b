"""Work on big data that shows how far it is: every look is shown here, not only one every ten seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data.column_files import ColumnFiles
from training.data.datasets import generated
from training.data.datasets.table import read_table
from training.data.datasets.text import fields
from training.data.keep import keep
from training.data.known import NOTHING_KNOWN

Shown = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def all_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contract.progress.PLAIN_SECONDS", 0.0)


def test_a_table_of_a_data_set_shows_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setattr("training.data.datasets.table._CHUNK", 2)
    read_table(tmp_path / "clips.csv", b"user\n" + b"u\n" * 4, ("user",))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[2] for line in lines] == ["2 rows", "4 rows"]
    assert lines[0].startswith("reading clips.csv  69%")


def test_lines_of_a_data_set_show_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown) -> None:
    monkeypatch.setattr("training.data.datasets.text._LINES", 2)
    assert len(list(fields(tmp_path / "ratings.dat", "u::1\n" * 3, "::", ("user", "time")))) == 3
    assert [line.split("  ")[1] for line in capsys.readouterr().err.splitlines()] == ["50%", "100%"]


def test_ordering_in_memory_shows_its_steps(capsys: Shown) -> None:
    keep(generated.load(users=20, items=30, events=10), 1, NOTHING_KNOWN)
    steps = [line.split("  ")[1:3] for line in capsys.readouterr().err.splitlines()]
    assert steps == [
        ["25%", "ids numbered"], ["50%", "repeats dropped"], ["75%", "impressions labelled"], ["100%", "ordered"],
    ]  # fmt: skip


def test_compressing_columns_shows_the_share_of_their_bytes(tmp_path: Path, capsys: Shown) -> None:
    files = ColumnFiles(tmp_path / "columns", ("items", "times_ms"))
    files.add({"items": np.arange(9), "times_ms": np.arange(9)})
    files.save(tmp_path / "interactions.npz")
    assert [line.split("  ")[:2] for line in capsys.readouterr().err.splitlines()] == [
        ["compressing interactions", "50%"], ["compressing interactions", "100%"],
    ]  # fmt: skip
