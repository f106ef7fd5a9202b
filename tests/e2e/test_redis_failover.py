"""Rankings while a real Redis fails over, behind Sentinels and in a Cluster: every one is answered.

`python -m tests.support.redis_failover` prints how long answers stay degraded (docs/redis.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.redis_failover import CLUSTER_FAULTS, SENTINEL_FAULTS, USERS, of_cluster, of_sentinels

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx, pytest.mark.slow]

PATIENT_MS = 400  # so that a pause of the machine is not taken for a fault


@pytest.mark.parametrize("fault", SENTINEL_FAULTS)
def test_no_ranking_is_lost_while_sentinels_replace_the_primary(tmp_path: Path, fault: str) -> None:
    seen = of_sentinels(fault, tmp_path, PATIENT_MS)
    assert seen.lost == 0
    assert len(seen.answers) > 200
    if fault != "planned":
        assert seen.degraded_users  # the fault was one


@pytest.mark.parametrize("fault", CLUSTER_FAULTS)
def test_no_ranking_is_lost_and_only_users_of_the_shard_are_degraded_in_a_cluster(tmp_path: Path, fault: str) -> None:
    seen, of_shard = of_cluster(fault, tmp_path, PATIENT_MS)
    assert seen.lost == 0
    assert 0 < len(of_shard) < len(USERS)
    assert seen.degraded_users <= of_shard
    if fault in {"killed", "frozen"}:
        assert seen.degraded_users
