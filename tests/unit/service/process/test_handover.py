"""Who gets the listening socket, and what becomes of the door."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from service.process import handover
from service.process.handover import READY, Door, StillServing, take_over

pytestmark = pytest.mark.anyio


class Rig:
    """A process that listens and has a door."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.is_stopping = False
        self.changes = 0
        self.door = Door(self.listener, is_stopping=lambda: self.is_stopping, on_change=self._changed)
        self.door.open()

    async def knock(self, *, replaces: bool = False) -> tuple[socket.socket, socket.socket] | None:
        return await asyncio.to_thread(take_over, self.address, replaces=replaces)

    async def changed(self, times: int) -> None:
        async with asyncio.timeout(60):
            while self.changes < times:  # noqa: ASYNC110 - the door's own callback makes it true
                await asyncio.sleep(0.001)

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    rig.door.close()
    rig.listener.close()


async def test_a_process_that_serves_keeps_its_socket_and_says_who_it_is(rig: Rig) -> None:
    for _ in range(2):
        with pytest.raises(StillServing) as refusal:
            await rig.knock()
        assert refusal.value.process_id > 0
    assert rig.changes == 0


@pytest.mark.parametrize("replaces", [False, True])
async def test_a_successor_gets_the_very_socket_and_says_when_it_is_ready(rig: Rig, replaces: bool) -> None:
    rig.is_stopping = not replaces
    taken = await rig.knock(replaces=replaces)
    assert taken is not None
    listener, predecessor = taken
    with listener, predecessor:
        assert listener.getsockname() == rig.address
        assert (rig.door.has_successor, rig.door.is_succeeded) == (True, False)
        assert await rig.knock(replaces=True) is None  # one at a time
        with socket.create_connection(rig.address):
            rig.listener.close()
            listener.accept()[0].close()  # what waited in the queue is still there
        predecessor.send(READY)
        await rig.changed(2)
    assert (rig.door.has_successor, rig.door.is_succeeded) == (False, True)


async def test_a_successor_that_is_lost_makes_room_for_the_next(rig: Rig) -> None:
    rig.is_stopping = True
    for turn in (1, 2):
        taken = await rig.knock()
        assert taken is not None
        for one in taken:
            one.close()
        await rig.changed(2 * turn)
        assert (rig.door.has_successor, rig.door.is_succeeded) == (False, False)


async def test_another_users_process_gets_nothing_and_gives_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.is_stopping = True
    monkeypatch.setattr(handover, "_is_ours", lambda _connection: False)
    assert await rig.knock(replaces=True) is None
    assert rig.changes == 0


async def test_without_a_door_there_is_no_one(rig: Rig) -> None:
    rig.door.close()
    assert await rig.knock(replaces=True) is None


async def test_a_visitor_who_leaves_without_a_word_is_forgotten(rig: Rig) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as visitor:
            visitor.connect(handover._name(rig.address))
    with pytest.raises(StillServing):
        await rig.knock()
    assert not rig.door._visitors
