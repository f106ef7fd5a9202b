"""The command from behaviours to lists, in this process and with workers of Ray."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.scoring.__main__ import main
from tests.support.builders import TinyModel
from tests.support.signing import Signer

pytestmark = pytest.mark.onnx

ROOT = Path(__file__).resolve().parents[3]
RAY_PYTHON = ROOT / ".ray" / "bin" / "python"


@pytest.fixture
def behaviours(tmp_path: Path) -> Path:
    path = tmp_path / "behaviours.csv"
    rng = np.random.default_rng(4)
    rows = [f"u{user},i{item},{1_700_000_000_000 + n}" for n, (user, item) in enumerate(rng.integers(1, 21, (300, 2)))]
    path.write_text("\n".join(("user_id,item_id,ts", *rows)) + "\n", encoding="utf-8")
    return path


def _lists(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return sorted(rows, key=lambda row: str(row["user_id"]))


def test_the_lists_and_a_summary_are_written(tmp_path: Path, behaviours: Path) -> None:
    bundle, out = TinyModel().write(tmp_path), tmp_path / "lists"
    assert (
        main([str(bundle), str(behaviours), "--out", str(out), "--popular", "5", "--top", "3", "--seen", "keep"]) == 0
    )
    rows = _lists(out)
    assert [row["user_id"] for row in rows] == sorted(f"u{user}" for user in range(1, 21))
    assert {item for row in rows for item in row["item_ids"]} <= {"i1", "i2", "i3", "i4", "i5"}
    assert {len(row["item_ids"]) for row in rows} == {3}
    summary = json.loads((out / "_scoring.json").read_text())
    assert (summary["model"], summary["version"], summary["users"], summary["candidates"]) == ("tiny", "1", 20, 5)


def test_scoring_shows_its_progress(
    tmp_path: Path, behaviours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("contract.progress.PLAIN_SECONDS", 0.0)
    monkeypatch.setattr("deploy.scoring.workers.BATCH", 5)
    bundle = TinyModel().write(tmp_path)
    assert main([str(bundle), str(behaviours), "--out", str(tmp_path / "lists"), "--popular", "5"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [["scoring", f"{share}%"] for share in (25, 50, 75, 100)]


def test_with_signers_only_a_signed_bundle_scores(
    tmp_path: Path, behaviours: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    bundle, signer = TinyModel().write(tmp_path), Signer.make(tmp_path / "keys")
    monkeypatch.setenv("RANKER_BUNDLES__SIGNERS", str(signer.public))
    arguments = [str(bundle), str(behaviours), "--out", str(tmp_path / "lists"), "--popular", "5"]
    assert "it is not signed" in refused(main, *arguments)
    signer.sign(bundle)
    assert main(arguments) == 0
    assert len(_lists(tmp_path / "lists")) == 20


@pytest.mark.parametrize("ending", ["txt", "parquet"])
def test_candidates_come_from_a_file(tmp_path: Path, behaviours: Path, ending: str) -> None:
    bundle, out, file = TinyModel().write(tmp_path), tmp_path / "lists", tmp_path / f"items.{ending}"
    named = ["i9", "i2", "elsewhere", "i9"]
    if ending == "txt":
        file.write_text("\n".join(named) + "\n")
    else:
        pq.write_table(pa.table({"item_id": named}), file)
    assert main([str(bundle), str(behaviours), "--out", str(out), "--candidates", str(file), "--seen", "keep"]) == 0
    assert all(sorted(row["item_ids"]) == ["i2", "i9"] for row in _lists(out))
    assert json.loads((out / "_scoring.json").read_text())["unknown_candidates"] == 1


def test_bad_arguments_are_one_line_and_leave_no_folder(
    tmp_path: Path, behaviours: Path, refused: Callable[..., str]
) -> None:
    bundle, out, items = TinyModel().write(tmp_path), tmp_path / "lists", tmp_path / "items.txt"
    items.write_text("elsewhere\n")
    assert "knows none" in refused(main, bundle, behaviours, "--out", out, "--candidates", items)
    assert "--top" in refused(main, bundle, behaviours, "--out", out, "--top", "0")
    assert "manifest" in refused(main, tmp_path, behaviours, "--out", out)
    assert "exists" in refused(main, bundle, behaviours, "--out", tmp_path)
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_workers_without_ray_are_refused_with_the_remedy(
    tmp_path: Path, behaviours: Path, refused: Callable[..., str]
) -> None:
    line = refused(main, TinyModel().write(tmp_path), behaviours, "--out", tmp_path / "lists", "--workers", "2")
    assert "ray is not installed" in line


@pytest.mark.slow
def test_two_workers_of_ray_write_the_lists_of_one_process(tmp_path: Path, behaviours: Path) -> None:
    python = sys.executable if importlib.util.find_spec("ray") else str(RAY_PYTHON)
    if not Path(python).exists():
        pytest.skip("ray is not installed: make ray-check installs it beside the other packages and runs this test")
    bundle = TinyModel().write(tmp_path)
    assert main([str(bundle), str(behaviours), "--out", str(tmp_path / "here"), "--at", "1"]) == 0
    command = [python, "-m", "deploy.scoring", str(bundle), str(behaviours), "--out", str(tmp_path / "ray")]
    done = subprocess.run(
        [*command, "--at", "1", "--workers", "2"],
        cwd=ROOT, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _lists(tmp_path / "ray") == _lists(tmp_path / "here")
