"""The demo's data and releases keep the name of what they are made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import releases
from deploy.releases import Places, prepare, recipe_of
from training.__main__ import main as training
from training.data.datasets import locate


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(data=tmp_path / "data", runs=tmp_path / "runs", bundles=tmp_path / "b", records=tmp_path / "records")


def test_the_generated_catalogue_is_prepared_and_trained_under_its_own_name(
    places: Places, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = places.data / "ml-100k"
    real.mkdir(parents=True)
    (real / "provenance.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(releases, "DATASET", "generated")  # what ml-100k becomes without data and network
        made = prepare(places)
    assert made.prepared == places.data / "generated"
    assert json.loads((made.prepared / "provenance.json").read_text())["dataset"] == "generated catalogue"
    assert (real / "provenance.json").read_text() == "{}"
    said = capfd.readouterr().out
    assert "generated catalogue: 600 users" in said
    assert '"prepared"' not in said  # the report is for this program, not for people
    where = ["--data", str(places.data), "--out", str(places.runs), "--dataset", made.dataset, "--device", "cpu"]
    assert training(["train", str(recipe_of("popularity", short=True)), *where]) == 0
    assert [path.relative_to(places.runs).parts[0] for path in places.runs.glob("*/*/*/run.json")] == ["generated"]


def test_without_data_and_network_the_command_line_reports_the_name_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(_: str) -> bytes:
        raise OSError("no route")

    monkeypatch.setattr(locate, "ROOT", tmp_path / "elsewhere")
    monkeypatch.setattr(locate, "_fetch", offline)
    monkeypatch.delenv("RANKER_DATA", raising=False)
    assert training(["prepare", "ml-100k", "--out", str(tmp_path / "data"), "--report"]) == 0
    said = capsys.readouterr().out
    assert "CONTINUING WITH A GENERATED CATALOGUE" in said
    assert json.loads(said.splitlines()[-1]) == {"prepared": "generated"}
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["generated"]


def test_a_damaged_record_of_a_release_is_none(places: Places) -> None:
    record = places.records / "mgnm-1.json"
    record.parent.mkdir()
    for content in ("", "{", "[]", "{}"):
        record.write_text(content)
        assert releases._read(record, replace(places, dataset="generated"), "mgnm") is None


@pytest.mark.parametrize(("dataset", "forced"), [("generated", True), ("ml-100k", False)])
def test_only_models_of_the_generated_catalogue_are_exported_below_popularity(
    dataset: str, forced: bool, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Sequence[str]] = []
    monkeypatch.setattr(releases, "run_step", ran.append)
    bundle = places.bundles / "mgnm" / "1"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")
    run = places.runs / dataset / "mgnm" / "one"
    releases._export(replace(places, dataset=dataset), "mgnm", run, places.records / "mgnm-1.json")
    assert [("--force" in command) for command in ran] == [forced]
