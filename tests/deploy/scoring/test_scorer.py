from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from contract.behaviours.records import pack
from deploy.scoring import scorer
from deploy.scoring.histories import SCHEMA
from deploy.scoring.scorer import Plan, ScoringError, UserScorer
from tests.support.builders import TinyModel, behaviours

pytestmark = pytest.mark.onnx

HISTORIES = {"u1": [3, 5, 9], "new": [], "u2": [20], "u3": [3, 5, 9]}


def _plan(folder: Path, model: TinyModel, **changes: Any) -> Plan:
    fields = {"items": tuple(model.item_ids), "top": 100, "seen": "keep", "request_time_ms": 5_000}
    return Plan(bundle=model.write(folder), **{**fields, **changes})


def _histories() -> pa.Table:
    records = [pack(behaviours([f"i{index}" for index in history])) for history in HISTORIES.values()]
    return pa.table([list(HISTORIES), records], schema=SCHEMA)


def _lists(plan: Plan) -> dict[str, dict[str, float]]:
    rows = UserScorer(plan)(_histories()).to_pylist()
    return {row["user_id"]: dict(zip(row["item_ids"], row["scores"], strict=True)) for row in rows}


@pytest.mark.parametrize("run", [3, 16_384])
def test_every_user_gets_all_candidates_by_the_model_s_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    monkeypatch.setattr(scorer, "MAX_RUN", run)  # 3: the candidates of a user take seven runs
    model = TinyModel()
    lists = _lists(_plan(tmp_path, model))
    assert list(lists) == list(HISTORIES)
    for user, history in HISTORIES.items():
        expected = model.expected(history, range(1, 21))
        order = [model.item_ids[place] for place in np.argsort(-expected, kind="stable")]
        assert list(lists[user]) == order
        assert [lists[user][item] for item in model.item_ids] == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_user_and_the_time_of_the_request_are_read(tmp_path: Path) -> None:
    model = TinyModel(users=3, reads_time=True)
    lists = _lists(_plan(tmp_path, model, request_time_ms=7_000))
    assert lists["u2"]["i4"] == pytest.approx(float(model.expected([20], [4], user=2, time_ms=7_000)[0]), rel=1e-5)


def test_seen_items_are_dropped_and_lists_are_cut(tmp_path: Path) -> None:
    lists = _lists(_plan(tmp_path, TinyModel(), seen="drop", top=4))
    whole = _lists(_plan(tmp_path / "again", TinyModel()))
    assert list(lists["u1"]) == [item for item in whole["u1"] if item not in ("i3", "i5", "i9")][:4]
    assert list(lists["new"]) == list(whole["new"])[:4]


def test_items_and_users_without_a_score_are_left_out(tmp_path: Path) -> None:
    lists = _lists(_plan(tmp_path, TinyModel(nan_candidate=7, nan_item=20)))
    assert len(lists["u1"]) == 19
    assert "i7" not in lists["u1"]
    assert lists["u2"] == {}


def test_a_graph_that_fails_on_a_user_ends_the_scoring_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="user 'u2'"):
        _lists(_plan(tmp_path, TinyModel(poison_item=20)))


def test_a_bundle_that_does_not_give_its_golden_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="golden"):
        UserScorer(_plan(tmp_path, TinyModel(spoilt=frozenset({"golden"}))))
