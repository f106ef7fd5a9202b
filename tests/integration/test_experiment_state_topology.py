"""The state of the experiments in a real Cluster, and behind real Sentinels through a planned failover."""

from __future__ import annotations

import asyncio

import pytest

from contract.experiments.history import State
from service.experiments.shared_state import SharedState
from service.experiments.state_stores import STATE_KEY, RedisStateStore
from service.redis.client import Client, Confirmation, make_client
from tests.support.experiment_files import NOW_MS, accepted, servable
from tests.support.redis_topology import cluster, until_true, watched

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

SECONDS = 5.0


def shared_through(client: Client) -> SharedState:
    return SharedState(RedisStateStore(client, f"staging:{STATE_KEY}", SECONDS), now_ms=lambda: NOW_MS)


async def accept(shared: SharedState, revision: str) -> State:
    """Accept a file, however often the store has to be asked."""
    async with asyncio.timeout(60):
        while True:
            await shared.look()
            wanted = accepted(shared.state, servable(revision=revision))
            if shared.is_shared and await shared.commit(wanted):
                return wanted


@pytest.mark.slow
async def test_state_lives_on_one_node_of_a_cluster() -> None:
    with cluster(3) as nodes:
        await until_true(nodes.is_whole)
        client = make_client(nodes.url(), timeout_seconds=SECONDS)
        try:
            last = await accept(shared_through(client), "one")
            other = shared_through(client)
            await other.look()
            assert other.state == last
            assert other.is_shared
        finally:
            await client.aclose()


@pytest.mark.slow
async def test_accepted_file_survives_a_planned_failover() -> None:
    with watched(1) as parts:
        await until_true(parts.is_replicated)
        confirm = Confirmation(lambda: None)
        client = make_client(parts.url, timeout_seconds=SECONDS, confirmation=confirm)
        try:
            shared = shared_through(client)
            first = await accept(shared, "one")
            await until_true(parts.fail_over)
            await until_true(lambda: parts.role(1) == "master")
            other = shared_through(client)
            async with asyncio.timeout(60):
                while not other.is_shared or other.state is None:
                    await other.look()
                    await asyncio.sleep(0.05)
            assert other.state == first
            second = await accept(other, "two")
            await shared.look()
            assert shared.state == second
            assert second.revision == 2
        finally:
            await client.aclose()
