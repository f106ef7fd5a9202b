"""Two replicas behind HAProxy with the committed configuration: planned work loses and refuses nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.row import Outcome, Row
from tests.faults.rows.rolling import hasty, rolled
from tests.support.programs import needed

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]


@pytest.mark.slow
@pytest.mark.parametrize("run", [rolled, hasty])
def test_planned_work_on_two_replicas_loses_and_refuses_nothing(tmp_path: Path, run: Callable[[Rig], None]) -> None:
    needed("haproxy", "haproxy")
    outcome = Outcome(Row(("B10",), "rolling", "lifecycle"), seed=2)
    rig = Rig(tmp_path, outcome, argparse.Namespace(quick=True, short=False, bundles=None, behaviours=None))
    try:
        run(rig)
    finally:
        rig.close()
    assert outcome.problems == []
    assert outcome.counts["full"] > 100
    assert set(outcome.counts) - {"late"} <= {"full", "degraded", "429", "504"}, outcome.notes
