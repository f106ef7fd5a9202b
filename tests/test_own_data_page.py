"""The worked examples of docs/own-data.md run as they are written, each in an empty folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.pages import ROOT, commands_of, run_commands
from training.data.datasets import kuairand
from training.data.datasets.interactions import DataError
from training.data.datasets.locate import locate

PAGE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")


def _commands(title: str) -> str:
    """Return the commands of the example whose heading contains the title."""
    [section] = [part for part in re.split(r"^## ", PAGE, flags=re.M) if part.startswith(f"Example: {title}")]
    return commands_of(section)


def _run(title: str, folder: Path) -> str:
    return run_commands(_commands(title), folder)


def _metrics(folder: Path, dataset: str) -> list[str]:
    return sorted(path.read_text() for path in (folder / "runs" / dataset).rglob("metrics.json"))


def _figures(output: str, ranking: str, name: str) -> list[float]:
    """Return a metric of the model, popularity, popularity of the day and chance, as printed."""
    printed = output.split(f"test, {ranking}:")[1].split("test, ")[0]
    figures = [float(figure) for figure in re.findall(rf"(?<![A-Z]){re.escape(name)} ([0-9.]+)", printed)]
    assert len(figures) == 4
    return figures


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_news_log_is_prepared_and_a_personal_model_beats_popularity_of_the_day(tmp_path: Path) -> None:
    output = _run("a news log", tmp_path)
    provenance = json.loads((tmp_path / "data" / "news" / "provenance.json").read_text())
    assert provenance["counts"]["impressions_positive"] > 1_000
    assert len(_metrics(tmp_path, "news")) == 2
    for ranking, name, lead in (("all", "AUC", 0.02), ("unseen", "NDCG@10", 0.005), ("cold", "NDCG@10", 0.005)):
        model, *baselines = _figures(output, ranking, name)
        assert model > max(baselines) + lead, ranking


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shop_export_is_prepared_and_trained_on(tmp_path: Path) -> None:
    output = _run("a shop export", tmp_path)
    provenance = json.loads((tmp_path / "data" / "orders" / "provenance.json").read_text())
    assert provenance["repeat_share"] > 0.1
    assert len(_metrics(tmp_path, "orders")) == 1
    model, *baselines = _figures(output, "all", "AUC")
    assert model > max(baselines) + 0.02


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kuairand_is_prepared_and_trained_on(tmp_path: Path) -> None:
    try:
        locate(kuairand.NAME, kuairand.FILES, None, tmp_path)
    except DataError:
        pytest.skip("KuaiRand is not on this machine")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "recipes").symlink_to(ROOT / "training" / "recipes")
    _run("KuaiRand", tmp_path)
    assert len(_metrics(tmp_path, "kuairand-pure")) == 1
