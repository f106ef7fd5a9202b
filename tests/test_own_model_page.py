"""The worked example of docs/own-model.md runs as it is written, and the service ranks with its bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from contract.bundle.manifest import read_manifest
from tests.support.pages import ROOT, commands_of, run_commands
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

PAGE = (ROOT / "docs" / "own-model.md").read_text(encoding="utf-8")
POPULARITY = "training/recipes/ml-100k/popularity.toml"


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.timeout(600)
def test_the_model_is_checked_trained_compared_exported_and_served(redis_server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / POPULARITY).parent.mkdir(parents=True)
    shutil.copy(ROOT / POPULARITY, tmp_path / POPULARITY)
    output = run_commands(commands_of(PAGE), tmp_path)
    assert " 0 failed" in output
    assert "the exported graphs have the scores of torch" in output
    [difference] = [line for line in output.splitlines() if line.startswith("│ newest_clicks │ NDCG@10")]
    assert float(difference.split("│")[4]) > 0.2  # its interval against popularity begins there
    manifest = read_manifest(tmp_path / "bundles-own" / "newest_clicks" / "1")
    assert (manifest.model, manifest.serving_class) == ("newest_clicks", "A")
    card = (tmp_path / "bundles-own/newest_clicks/1/model_card.md").read_text()
    assert card.startswith("# newest_clicks 1\n\n")
    assert "The model is the class `newest_clicks:NewestClicks`." in card

    (tmp_path / "bundles-own").rename(tmp_path / "bundles")  # where the service of the tests looks
    (tmp_path / "newest_clicks.py").unlink()
    settings = {"BUNDLES__DEFAULT_MODEL": "newest_clicks", "EXPERIMENTS__FILE": ""}
    service = ServiceProcess(tmp_path, redis_server.url, **settings)
    try:
        service.start()
        answer = httpx.post(f"{service.url}/rank", json={"user_id": "someone", "candidates": ["205", "206"]})
    finally:
        service.close()
    assert answer.headers["X-Model"] == "newest_clicks@1"
    assert all(isinstance(item["score"], float) for item in answer.json()["items"])
    assert answer.json()["degraded"] == []
