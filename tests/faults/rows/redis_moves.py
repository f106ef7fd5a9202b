"""A primary that is replaced, behind Sentinels and in a Cluster: three and six real nodes."""

from __future__ import annotations

from typing import Final

from tests.faults.rig import Rig
from tests.faults.row import proven, row
from tests.support.redis_failover import CLUSTER_FAULTS, DOWN_AFTER_MS, SENTINEL_FAULTS, Seen, of_cluster, of_sentinels

_READ_MS: Final = 20  # as in production


@row("R19", "failover by Sentinel: killed, frozen, planned", "redis")
def by_sentinels(rig: Rig) -> None:
    for fault in SENTINEL_FAULTS:
        seen = of_sentinels(fault, rig.empty(fault), _READ_MS)
        _note(rig, seen, f"behind Sentinels, {fault}")


@row("R21", "a Cluster: a primary killed, frozen, replaced; slots moved", "redis")
def in_a_cluster(rig: Rig) -> None:
    for fault in CLUSTER_FAULTS:
        seen, of_shard = of_cluster(fault, rig.empty(fault), _READ_MS)
        _note(rig, seen, f"in a Cluster, {fault}")
        if fault in ("killed", "frozen"):
            # A pause of the machine can degrade an answer of anyone; the fault degrades many of these.
            rig.require(seen.degraded_users & of_shard, f"{fault}: no user of the shard was degraded")


def _note(rig: Rig, seen: Seen, what: str) -> None:
    full = sum(one.is_full for one in seen.answers)
    rig.asked(full, "full")
    rig.asked(len(seen.answers) - full - seen.lost, "degraded")
    rig.asked(seen.lost, "no answer")
    rig.require(not seen.lost, f"V1: {seen.lost} requests lost {what}")
    rig.figure("B7", f"degraded {what}", seen.window_seconds, "s", most=DOWN_AFTER_MS / 1_000 + 2)


proven("R19", "writes during a failover by Sentinel", "redis",
       "integration/test_redis_sentinel.py::test_rankings_read_from_the_new_primary",
       "integration/test_redis_sentinel.py::test_no_acknowledged_append_is_lost_in_a_planned_failover",
       "integration/test_redis_sentinel.py::test_no_acknowledged_append_is_lost_when_the_primary_dies")  # fmt: skip
proven("R20", "all Sentinels are gone", "redis",
       "integration/test_redis_sentinel.py::test_last_known_primary_is_used_when_all_sentinels_and_connections_are_gone")  # fmt: skip
proven("R21", "reads and writes of a Cluster: a shard is down, slots move, a primary is replaced", "redis",
       "integration/test_redis_cluster.py::test_shard_that_is_down_degrades_its_own_users_only",
       "integration/test_redis_cluster.py::test_users_are_read_and_written_while_their_slots_move",
       "integration/test_redis_cluster.py::test_no_acknowledged_append_is_lost_when_a_primary_is_replaced")  # fmt: skip
