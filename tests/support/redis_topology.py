"""Real Sentinels and a real Cluster on loopback ports, to be failed over, moved and killed."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.support.redis_server import RedisServer, executable, free_port

SLOTS = 16_384
SERVICE = "main"


def ask(port: int, *words: str | int) -> Any:
    """Send one command to a server on a port; None if it does not answer or refuses."""
    with suppress(RedisError, OSError), Redis(port=port, socket_timeout=20, decode_responses=True) as client:
        return client.execute_command(*words)
    return None


async def until_true(condition: Callable[[], object], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the condition is another process's
            await asyncio.sleep(0.02)


# --- Sentinel


class Sentinel:
    """One Sentinel that watches one primary."""

    def __init__(self, primary: RedisServer, *, quorum: int, down_after_ms: int) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="ranker-sentinel-"))
        configuration = self._folder / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}\nsentinel failover-timeout {SERVICE} 20000\n"
        )
        command = [executable(), str(configuration), "--sentinel"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, *words: str) -> Any:
        return ask(self.port, "SENTINEL", *words)

    def names(self) -> int:
        """The port of the primary that it names."""
        found = self.ask("GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(found[1]) if found else 0

    def knows_all(self, *, others: int) -> bool:
        """Whether it knows the replica and the other Sentinels."""
        known = [self.ask(subject, SERVICE) or [] for subject in ("REPLICAS", "SENTINELS")]
        return [len(one) for one in known] == [1, others]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class Watched:
    """A primary and its replica, and the Sentinels that watch them."""

    def __init__(self, sentinels: int, down_after_ms: int) -> None:
        self.servers = [RedisServer(port=free_port()).start()]
        replica_of = ("--replicaof", "127.0.0.1", str(self.servers[0].port), "--repl-diskless-sync-delay", "0")
        self.servers.append(RedisServer(port=free_port(), arguments=replica_of).start())
        self.sentinels = [
            Sentinel(self.servers[0], quorum=sentinels // 2 + 1, down_after_ms=down_after_ms) for _ in range(sentinels)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def role(self, place: int) -> str:
        return str((ask(self.servers[place].port, "ROLE") or ["away"])[0])

    def is_replicated(self) -> bool:
        role = ask(self.servers[0].port, "ROLE")
        return bool(role) and role[0] == "master" and len(role[2]) > 0

    def is_ready(self) -> bool:
        """Whether the replica follows and all Sentinels name the primary."""
        return self.is_replicated() and all(one.names() == self.servers[0].port for one in self.sentinels)

    def fail_over(self) -> bool:
        """Ask one Sentinel for a planned failover; it refuses until it knows the replica well."""
        return self.sentinels[0].ask("FAILOVER", SERVICE) is not None

    def close(self) -> None:
        for part in (*self.sentinels, *self.servers):
            part.close()


@contextmanager
def watched(sentinels: int, down_after_ms: int = 60_000) -> Iterator[Watched]:
    parts = Watched(sentinels, down_after_ms)
    try:
        yield parts
    finally:
        parts.close()


# --- Cluster


def slot_of(user_id: str) -> int:
    return int(key_slot(user_id.encode()))


def _node() -> RedisServer:
    quick = ("--cluster-require-full-coverage", "no", "--cluster-node-timeout", "500")
    return RedisServer(port=free_port(), arguments=("--cluster-enabled", "yes", *quick)).start()


class ClusterNodes:
    """The primaries of a Cluster, and if asked for a replica of each."""

    def __init__(self, count: int, *, with_replicas: bool = False) -> None:
        self.nodes = [_node() for _ in range(count)]
        self.replicas = [_node() for _ in range(count * with_replicas)]
        bounds = [SLOTS * place // count for place in range(count + 1)]
        for epoch, (node, first, stop) in enumerate(zip(self.nodes, bounds, bounds[1:], strict=False), start=1):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", str(epoch))
            node.call("CLUSTER", "ADDSLOTS", *map(str, range(first, stop)))
        self.introduce()

    def introduce(self) -> None:
        """Tell the first node where the others are; they tell one another."""
        for node in (*self.nodes[1:], *self.replicas):
            self.nodes[0].call("CLUSTER", "MEET", "127.0.0.1", str(node.port))

    def url(self, *ports: int) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports or [self.nodes[0].port])

    def is_whole(self) -> bool:
        ports = {node.port for node in self.nodes}
        return all(self._sees(node) == ports for node in self.nodes)

    def follow(self) -> None:
        """Make each replica follow its primary."""
        for node, replica in zip(self.nodes, self.replicas, strict=True):
            replica.call("CLUSTER", "REPLICATE", str(ask(node.port, "CLUSTER", "MYID")))

    def is_replicated(self) -> bool:
        return all((ask(node.port, "ROLE") or [0, 0, []])[2] for node in self.nodes)

    def move(self) -> None:
        """Start every node again on another port, with what it remembers of itself."""
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.port = free_port()
            node.start()
        self.introduce()

    def place_of(self, user_id: str) -> int:
        """Which node has a user."""
        return slot_of(user_id) * len(self.nodes) // SLOTS

    def close(self) -> None:
        for node in (*self.nodes, *self.replicas):
            node.close()

    def _sees(self, node: RedisServer) -> set[int]:
        if "cluster_state:ok" not in str(ask(node.port, "CLUSTER", "INFO")):
            return set()
        return {int(primary[1]) for _, _, primary, *_ in ask_slots(node.port)}


def ask_slots(port: int) -> list[Any]:
    with suppress(RedisError, OSError), Redis(port=port, socket_timeout=20) as client:
        client.response_callbacks.pop("CLUSTER SLOTS", None)
        return list(client.execute_command("CLUSTER SLOTS"))
    return []


@contextmanager
def cluster(count: int, *, with_replicas: bool = False) -> Iterator[ClusterNodes]:
    nodes = ClusterNodes(count, with_replicas=with_replicas)
    try:
        yield nodes
    finally:
        nodes.close()
