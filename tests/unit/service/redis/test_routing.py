"""Errors that lead to a look-up and a second try, with fake servers and a fake topology."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis import exceptions as errors

from service.redis.errors import Busy, LeftAlone, Unconfirmed
from service.redis.node import Command
from service.redis.routing import RoutedClient

pytestmark = pytest.mark.anyio

SECONDS = 5.0
GET = Command(b"a", ("GET", "a"))


class FakeBreaker:
    is_open = False


class FakeNode:
    """Answers each call with the next of its results; an exception among them is raised."""

    host = "here"
    breaker = FakeBreaker()
    is_failing = False

    def __init__(self, *results: object) -> None:
        self.results = list(results)
        self.calls: list[list[Command]] = []
        self.dropped = 0

    def begin(self, commands: Sequence[Command], deadline: float, done: Callable[[Any], None]) -> bool:
        async def answer() -> None:
            try:
                done(await self.run(commands, deadline))
            except Exception as error:
                done(error)

        self.answering = asyncio.ensure_future(answer())
        return True

    async def run(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        self.calls.append(list(commands))
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return list(result) if isinstance(result, list) else [result] * len(commands)

    def drop_connections(self, since: float) -> None:
        self.dropped += 1

    async def aclose(self, timeout_seconds: float = 0.0) -> None:
        pass


class FakeTopology:
    """Leads to one server; a look-up leads to another."""

    poll_seconds: float | None = None

    def __init__(self, node: FakeNode, found: FakeNode | None = None) -> None:
        self.node, self.found = node, found
        self.looked = 0
        self.hang = False
        self.redirects: dict[type, FakeNode] = {}

    def node_of(self, key: bytes) -> Any:
        return self.node

    def redirected(self, error: errors.AskError, node: object) -> Any:
        return self.redirects.get(type(error))

    async def look_up(self) -> None:
        self.looked += 1
        while self.hang:  # noqa: ASYNC110 - the test ends it
            await asyncio.sleep(0.001)
        if self.found is not None:
            self.node = self.found

    def nodes(self) -> Sequence[Any]:
        return (self.node,)

    async def aclose(self) -> None:
        pass


async def run_by_call(client: RoutedClient, commands: Sequence[Command]) -> list[Any]:
    future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    assert client.begin(commands, future.set_result)
    return await future


@pytest.fixture(autouse=True, params=["run", "begin"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test asks both ways."""
    if request.param == "begin":
        monkeypatch.setattr(RoutedClient, "run", run_by_call)


def caused(error: errors.RedisError, cause: BaseException) -> errors.RedisError:
    error.__context__ = cause
    return error


WRONG_SERVER: list[Callable[[], Exception]] = [
    lambda: errors.ReadOnlyError("You can't write against a read only replica."),
    lambda: errors.MasterDownError("Link with MASTER is down"),
    lambda: errors.ClusterDownError("Hash slot not served"),
    lambda: errors.BusyLoadingError("Redis is loading the dataset in memory"),
    lambda: errors.ResponseError("NOREPLICAS Not enough good replicas to write."),
    lambda: errors.ResponseError("UNBLOCKED force unblock from blocking operation"),
]
# As in Redis 6, of a script.
INSIDE = "Error running script (call to f_1f8f): @user_script:73: @user_script: 73: -{} and so on."
WRONG_SERVER += [lambda code=code: errors.ResponseError(INSIDE.format(code)) for code in ("READONLY", "NOREPLICAS")]  # type: ignore[misc]
UNREACHABLE: list[Callable[[], Exception]] = [
    lambda: caused(errors.ConnectionError("Error 111 connecting"), ConnectionRefusedError()),
    lambda: caused(errors.ConnectionError("Error 113 connecting"), OSError(113, "No route to host")),
]
CUT: list[Callable[[], Exception]] = [
    lambda: errors.ConnectionError("Connection closed by server."),
    lambda: caused(errors.ConnectionError("Error while reading"), ConnectionResetError()),
    lambda: errors.InvalidResponse("Protocol error"),
]


@pytest.mark.parametrize("error", WRONG_SERVER + UNREACHABLE)
@pytest.mark.parametrize("is_raised", [True, False])
async def test_wrong_or_unreachable_server_is_looked_up_and_the_other_one_answers(
    error: Callable[[], Exception], is_raised: bool
) -> None:
    old, new = FakeNode(error() if is_raised else [error()]), FakeNode(b"well")
    topology = FakeTopology(old, new)
    assert await RoutedClient(topology, SECONDS).run([GET]) == [b"well"]
    assert (topology.looked, len(old.calls), len(new.calls)) == (1, 1, 1)
    assert old.dropped == (error in WRONG_SERVER)


@pytest.mark.parametrize("error", CUT)
async def test_cut_connection_gets_another_one_to_the_same_server(error: Callable[[], Exception]) -> None:
    node = FakeNode(error(), b"well")
    assert await RoutedClient(FakeTopology(node), SECONDS).run([GET]) == [b"well"]


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), errors.TimeoutError(), errors.AuthenticationError("WRONGPASS"), LeftAlone(), Busy(),
     errors.ResponseError(INSIDE.format("OOM")),
     errors.ResponseError("WRONGTYPE"), errors.OutOfMemoryError("OOM"), errors.NoPermissionError()],
)  # fmt: skip
async def test_what_a_second_try_cannot_mend_is_answered_at_once(error: Exception) -> None:
    node = FakeNode(error)
    assert await RoutedClient(FakeTopology(node), SECONDS).run([GET]) == [error]
    assert len(node.calls) == 1


async def test_second_failure_is_the_answer() -> None:
    node = FakeNode(errors.ReadOnlyError())
    [reply] = await RoutedClient(FakeTopology(node), SECONDS).run([GET])
    assert isinstance(reply, errors.ReadOnlyError)
    assert len(node.calls) == 2


async def test_only_what_failed_is_sent_again() -> None:
    node = FakeNode([b"one", errors.ReadOnlyError(), b"three"], b"two")
    commands = [Command(key, ("GET", key)) for key in (b"1", b"2", b"3")]
    assert await RoutedClient(FakeTopology(node), SECONDS).run(commands) == [b"one", b"two", b"three"]
    assert node.calls[1] == commands[1:2]


async def test_unconfirmed_write_is_looked_up_and_its_connections_stay() -> None:
    node = FakeNode([Unconfirmed()], b"well")
    topology = FakeTopology(node)
    assert await RoutedClient(topology, SECONDS).run([GET]) == [b"well"]
    assert (topology.looked, node.dropped) == (1, 0)


async def test_failures_in_a_row_share_one_look_up() -> None:
    topology = FakeTopology(FakeNode(errors.ReadOnlyError()))
    client = RoutedClient(topology, SECONDS)
    await asyncio.gather(*[client.run([GET]) for _ in range(20)])
    for _ in range(20):
        await client.run([GET])
    assert topology.looked == 1


async def test_look_up_that_hangs_costs_no_more_than_the_budget() -> None:
    topology = FakeTopology(FakeNode(errors.ReadOnlyError()))
    topology.hang = True
    client = RoutedClient(topology, 0.01)
    [reply] = await client.run([GET])
    assert isinstance(reply, errors.ReadOnlyError)
    await client.aclose()


@pytest.mark.parametrize("error", [errors.MovedError("1 there:7"), errors.AskError("1 there:7")])
async def test_redirection_is_followed_to_the_server_that_it_names(error: errors.AskError) -> None:
    source, target = FakeNode([error]), FakeNode([b"OK", b"well"])
    topology = FakeTopology(source)
    topology.redirects[type(error)] = target
    assert await RoutedClient(topology, SECONDS).run([GET]) == [b"well"]
    assert [command.words for command in target.calls[0]] == [("ASKING",), ("GET", "a")]


async def test_redirection_that_leads_nowhere_is_the_answer() -> None:
    error = errors.MovedError("1 there:7")
    assert await RoutedClient(FakeTopology(FakeNode([error])), SECONDS).run([GET]) == [error]
