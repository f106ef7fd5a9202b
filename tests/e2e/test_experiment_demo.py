"""A small run of the experiment demo: real Redis, real service, real sink, and the reports."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from deploy.experiment_demo.definition import AA, AB
from deploy.experiment_demo.options import Plan
from deploy.experiment_demo.play import experiment, interleaving, report_of
from deploy.releases import Places
from tests.support.builders import TinyModel
from tests.support.redis_server import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx, pytest.mark.slow]

PEOPLE, ITEMS, USERS = 30, 200, 300


def prepared(folder: Path) -> None:
    """Who rated what, as `training prepare` writes it; each person prefers one half of the items."""
    draw = np.random.default_rng(1)
    rated = [draw.permutation(np.arange(1, ITEMS + 1)[person % 2 :: 2])[:30] for person in range(PEOPLE)]
    folder.mkdir(parents=True)
    (folder / "items.json").write_text(json.dumps({"ids": [f"i{number}" for number in range(1, ITEMS + 1)]}))
    np.savez(folder / "interactions.npz", user_starts=np.arange(0, 30 * PEOPLE + 1, 30), items=np.concatenate(rated))


@pytest.mark.timeout(300)
def test_half_of_the_users_get_drafts_of_the_lists_that_the_arms_get(tmp_path: Path) -> None:
    places = Places("small", tmp_path / "data", tmp_path / "runs", tmp_path / "bundles", tmp_path / "records")
    prepared(places.prepared)
    for model in ("popularity", "pyramid_mixer"):
        TinyModel(model=model, items=ITEMS, slope=1.0 if model == "popularity" else -1.0).write(places.bundles)
    plan = Plan(USERS, 1, 5.0, 1, free_port(), is_oneshot=True, interleaves=True)
    with experiment(plan, places, {"popularity": "1", "pyramid_mixer": "1"}) as (_, lived, outcomes):
        finding, report = interleaving(plan, places)
    assert [one.experiment for one in outcomes] == [AB, AA]
    assert lived.totals.unlike <= lived.totals.degraded
    found = json.loads(finding.read_text(encoding="utf-8"))
    exposed = sum(arm["exposed"] for arm in json.loads(report.read_text(encoding="utf-8"))["arms"])
    assert found["simulated"] is True
    assert found["rows"][0]["credit"] == "finish"
    assert found["rows"][0]["users"] == USERS - exposed
    assert dict(found["facts"])["Rankings with teams"] == dict(found["facts"])["Rankings with an answer"]


@pytest.mark.timeout(300)
def test_a_week_of_short_days_ends_with_the_reports_of_both_experiments(tmp_path: Path) -> None:
    places = Places("small", tmp_path / "data", tmp_path / "runs", tmp_path / "bundles", tmp_path / "records")
    prepared(places.prepared)
    for model in ("popularity", "pyramid_mixer"):
        TinyModel(model=model, items=ITEMS, offset=float(model == "popularity")).write(places.bundles)
    plan = Plan(USERS, 1, 5.0, 1, free_port(), is_oneshot=True)
    with experiment(plan, places, {"popularity": "1", "pyramid_mixer": "1"}) as (stack, lived, outcomes):
        page = httpx.get(f"{stack.url}/page/report", timeout=20)
        assert "page/report" in httpx.get(stack.url, timeout=20).text
    assert page.text == report_of(places, AB).read_text(encoding="utf-8")
    assert (lived.totals.visits > USERS, lived.totals.events > 10 * USERS) == (True, True)
    assert [one.experiment for one in outcomes] == [AB, AA]
    for key in (AB, AA):
        document = json.loads(report_of(places, key).with_suffix(".json").read_text(encoding="utf-8"))
        assert document["simulated"] is True
        assert document["early"] is False
        assert sum(arm["analysed"] for arm in document["arms"]) == USERS  # forced exposures are left out
        assert {gate["key"]: gate["state"] for gate in document["gates"]}["assignment"] == "pass"
        rows = {row["metric"]: row["estimate"] for row in document["rows"]}
        assert 1 <= rows["active_days"]["control"] <= 7
        assert rows["playtime"]["treatment"] > 60
        assert document["verdict"]["sentence"].startswith("Simulated data")
