"""A model below popularity or chance is refused, and the card tells how good a model is and what changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.bundle.manifest import MODEL_CARD
from exporter.__main__ import main
from exporter.card.previous import previous_bundle
from exporter.errors import ExportError
from exporter.export import export_run
from exporter.run.directory import read_run
from tests.unit.exporter.fake_runs import write_run

pytestmark = pytest.mark.onnx

HOUR = 3_600_000


def _metrics(value: float, below: list[str], **more: Any) -> dict[str, Any]:
    values = {"ndcg@10": value / 2, "unseen.ndcg@10": value}
    return {
        "test": values,
        "valid": {"unseen.ndcg@10": 0.5},
        "queries": {"test": 8, "valid": 8},
        "view_queries": {"test": {"": 8, "unseen": 8}},
        "protocol": "leave one out",
        "first": "unseen",
        "first_metric": "unseen.ndcg@10",
        "repeat_share": 0.02,
        "baselines": {
            "popularity": {"ndcg@10": 0.1, "unseen.ndcg@10": 0.2},
            "popularity_of_day": {"ndcg@10": 0.15, "unseen.ndcg@10": 0.3},
            "chance": {"ndcg@10": 0.01, "unseen.ndcg@10": 0.0123},
        },
        "below": below,
        **more,
    }


def _run(path: Path, metrics: dict[str, Any], items: int = 60, span: list[int] | None = None) -> Path:
    run = write_run(path, "popularity", items=items, metrics=metrics)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "data_span_ms": span}))
    return run


def test_a_model_below_popularity_is_refused_with_both_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path / "run", _metrics(0.15, ["popularity"]))
    assert main([str(run), "--out", str(tmp_path / "bundles")]) == 1
    said = capsys.readouterr().err
    assert "below popularity: unseen.ndcg@10 0.1500, popularity 0.2000; --force" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "bundles").exists()


def test_force_exports_it_and_the_card_keeps_the_mark(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", _metrics(0.01, ["popularity", "chance"]))
    assert main([str(run), "--out", str(tmp_path / "bundles"), "--force"]) == 0
    card = (tmp_path / "bundles" / "popularity" / "1" / MODEL_CARD).read_text()
    assert "**Not fit to serve: below popularity: unseen.ndcg@10 0.0100, popularity 0.2000; below chance" in card


def test_the_card_has_baselines_beside_each_metric_the_data_span_and_what_changed(tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    first = _run(tmp_path / "first", _metrics(0.25, []), items=50, span=[0, 24 * HOUR])
    cold = {"view_queries": {"test": {"": 8, "unseen": 8, "warm": 5, "cold": 3}}}
    second = _run(tmp_path / "second", _metrics(0.28, [], **cold), items=60, span=[24 * HOUR, 48 * HOUR])
    old = (export_run(first, bundles).bundle / MODEL_CARD).read_text()
    new = (export_run(second, bundles).bundle / MODEL_CARD).read_text()
    assert "Not fit" not in old + new
    assert "Changes since" not in old
    assert "| first event | 1970-01-01 00:00:00+00:00 |\n| last event | 1970-01-02 00:00:00+00:00 |" in old
    assert "| split | metric | value | popularity | popularity of day | chance |" in new
    rows = [line for line in new.splitlines() if line.startswith("| test |")]
    assert rows[0] == "| test | unseen.ndcg@10 | 0.2800 | 0.2000 | 0.3000 | 0.0123 |"
    assert "2.0% of the targets are repeats" in new
    assert "(warm): 5; born later (cold): 3." in new
    assert "## Changes since version 1" in new
    assert "| items | 50 | 60 (10 added, 0 removed) |" in new
    assert "| last event | 1970-01-02 00:00:00+00:00 | 1970-01-03 00:00:00+00:00 |" in new
    assert "| unseen.ndcg@10 | 0.2500 | 0.2800 | +0.0300 |" in new


def test_a_damaged_verdict_is_named(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", {**_metrics(0.3, []), "below": None})
    with pytest.raises(ExportError, match=r"metrics\.json: damaged"):
        read_run(run)


def test_a_bundle_before_that_cannot_be_read_is_not_compared_with(tmp_path: Path) -> None:
    run = read_run(_run(tmp_path / "run", _metrics(0.3, [])))
    (tmp_path / "bundles" / "1").mkdir(parents=True)
    assert previous_bundle(tmp_path / "bundles", run) is None
    (tmp_path / "bundles" / "1" / "manifest.json").write_text("{")
    assert previous_bundle(tmp_path / "bundles", run) is None
