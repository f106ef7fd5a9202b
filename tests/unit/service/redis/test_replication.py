from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from service.redis.errors import Unconfirmed
from service.redis.replication import Replication, Words

pytestmark = pytest.mark.anyio


class Primary:
    """Answers ROLE and WAIT as a primary with some replicas does."""

    def __init__(self) -> None:
        self.replicas, self.confirming = 1, 1
        self.refuses = False
        self.unconfirmed = 0
        self.now = 0.0
        self.asked: list[object] = []
        self.replication = Replication(
            wait_ms=100, grace_seconds=5, on_unconfirmed=self._count, clock=lambda: self.now
        )  # fmt: skip

    def _count(self) -> None:
        self.unconfirmed += 1

    async def write(self) -> bool:
        """Write; say whether the write may be acknowledged."""
        result = await self.replication.confirm(self._answer)
        assert result is None or isinstance(result, Unconfirmed)
        return result is None

    async def _answer(self, words: Words) -> Any:
        self.asked.append(words[0])
        if self.refuses:
            return NoPermissionError()
        if words[0] == "ROLE":
            return [b"master", 7, [[b"127.0.0.1", b"1", b"7"]] * self.replicas]
        return self.confirming


async def test_write_that_a_replica_has_is_acknowledged_and_not_counted() -> None:
    primary = Primary()
    assert await primary.write()
    assert primary.asked == ["ROLE", "WAIT"]
    assert primary.unconfirmed == 0


async def test_primary_that_never_had_a_replica_is_believed_without_waiting_and_counted() -> None:
    primary = Primary()
    primary.replicas = 0
    assert await primary.write()
    assert primary.asked == ["ROLE"]
    assert primary.unconfirmed == 1


async def test_primary_that_has_just_lost_its_replicas_is_not_believed_for_a_while() -> None:
    primary = Primary()
    assert await primary.write()
    primary.replicas = 0
    for primary.now in (10.0, 12.0, 14.9):
        assert not await primary.write()
    assert primary.unconfirmed == 0
    for primary.now in (15.0, 16.0):
        assert await primary.write()
    assert primary.unconfirmed == 2


async def test_replica_that_comes_back_in_time_ends_the_doubt() -> None:
    primary = Primary()
    assert await primary.write()
    primary.replicas = 0
    assert not await primary.write()
    primary.replicas, primary.now = 1, 4.0
    assert await primary.write()
    primary.replicas, primary.now = 0, 8.0
    assert not await primary.write()


async def test_slow_replica_is_still_a_replica_and_what_it_lacks_is_counted() -> None:
    primary = Primary()
    primary.confirming = 0
    assert await primary.write()
    assert primary.unconfirmed == 1


async def test_replica_that_goes_while_it_is_waited_for_means_doubt() -> None:
    primary = Primary()
    primary.confirming = 0
    asked = primary._answer

    async def answer(words: Words) -> Any:
        reply = await asked(words)
        if words[0] == "WAIT":
            primary.replicas = 0
        return reply

    assert isinstance(await primary.replication.confirm(answer), Unconfirmed)


async def test_user_without_the_right_to_ask_writes_unconfirmed() -> None:
    primary = Primary()
    primary.refuses = True
    assert await primary.write()
    assert primary.unconfirmed == 1
