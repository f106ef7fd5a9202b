"""The commands of `python -m analysis` with bad input: one line with the problem, and no half-made folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import __main__ as analysis
from tests.support.command_lines import KINDS, spoilt

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--url", "redis://localhost:eight"], "--url: a host is written as name:port"),
        (["--batch-rows", "0"], "--batch-rows: Input should be greater than or equal to 1"),
        (["--trim", "perhaps"], "--trim: Input should be a valid boolean"),
        (["--consumer", "a b"], "--consumer: String should match pattern"),
        (["--url", "unix:///no/such/socket", "--once"], "Redis: "),
    ],
)
def test_a_sink_with_a_bad_flag_is_one_line(
    flags: list[str], words: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert words in refused(analysis.main, "sink", "--out", tmp_path / "out", *flags)


def test_a_sink_with_a_bad_variable_or_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert "file" in refused(analysis.main, "sink", "--out", tmp_path / "file")
    monkeypatch.setenv("RANKER_SINK__BATCH_ROWS", "many")
    assert "RANKER_SINK__BATCH_ROWS: Input should be a valid integer" in refused(
        analysis.main, "sink", "--out", tmp_path / "out"
    )
    monkeypatch.setenv("RANKER_SINK__BATCH_ROW", "7")
    assert "unknown setting; did you mean RANKER_SINK__BATCH_ROWS?" in refused(
        analysis.main, "sink", "--out", tmp_path / "out"
    )


def test_a_damaged_file_among_those_to_compact_is_one_line(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = tmp_path / "activity" / "date=2026-01-01"
    folder.mkdir(parents=True)
    for name in ("a.parquet", "b.parquet"):
        (folder / name).write_bytes(b"PAR1")
    assert "a.parquet: not a whole Parquet file" in refused(analysis.main, "compact", "--out", tmp_path)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "no exposures at all"),
        (["--shares", "treatment=1"], "one arm must be named control"),
        (["--shares", "control=1,control=1"], "give each arm once"),
        (["--shares", "control=half"], "give each arm once"),
        (["--day", "0s"], "a day is 0 ms"),
    ],
)
def test_a_report_with_a_bad_option_is_one_line(
    flags: list[str], words: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "events").mkdir()
    assert words in refused(
        analysis.main, "report", "e", "--data", tmp_path / "events", "--out", tmp_path / "out", *flags
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_whose_plan_or_data_are_spoilt_is_one_line(
    kind: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    plan, out = spoilt(tmp_path / "plan.yaml", kind), tmp_path / "out"
    where = ["--data", tmp_path, "--out", out]
    assert "plan.yaml" in refused(analysis.main, "report", "e", *where, "--experiments", plan)
    date = tmp_path / "exposures" / "date=2026-01-01"
    date.mkdir(parents=True)
    if kind not in ("missing", "below a file"):
        assert "0.parquet" in refused(
            analysis.main, "report", "e", *where, "--data", spoilt(date / "0.parquet", kind).parents[2]
        )
    assert not out.exists()


def test_a_report_without_a_data_folder_or_of_an_unknown_experiment_is_one_line(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    where = ["--data", tmp_path / "nowhere", "--out", tmp_path / "out"]
    assert "nowhere: no such folder" in refused(analysis.main, "report", "e", *where)
    known = ROOT / "tests" / "contract" / "vectors" / "experiments.yaml"
    assert "it has pyramid-vs-mgnm" in refused(analysis.main, "report", "e", *where, "--experiments", known)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interleaving_whose_data_are_spoilt_is_one_line(
    kind: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    where = ["interleave", "e", "--out", tmp_path / "out", "--data"]
    assert "nowhere: no such folder" in refused(analysis.main, *where, tmp_path / "nowhere")
    date = tmp_path / "rankings" / "date=2026-01-01"
    date.mkdir(parents=True)
    if kind not in ("missing", "below a file"):
        assert "0.parquet" in refused(analysis.main, *where, spoilt(date / "0.parquet", kind).parents[2])
    else:
        assert "is interleaved" in refused(analysis.main, *where, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_an_experiments_file_that_is_none_stops_the_guard(
    kind: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = spoilt(tmp_path / "experiments.yaml", kind)
    assert path.name in refused(analysis.main, "guard", "--data", tmp_path, "--experiments", path)


@pytest.mark.parametrize("flags", [["--window", "1"], ["--alpha", "2"], ["--planned", "0"], ["--every", "soon"]])
def test_a_guard_with_a_bad_flag_is_refused(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        analysis.main(["guard", "--data", str(tmp_path), "--experiments", str(tmp_path / "x"), *flags])
    assert f"argument {flags[0]}" in capsys.readouterr().err
