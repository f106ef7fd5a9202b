"""Stores for the accepted state of the experiments: one key in Redis, or one file in a folder that replicas share.

Both have two operations: read, and swap if no other replica has swapped since. The swap decides which replica is first.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from redis.exceptions import RedisError

from contract.experiments.history import MAX_STATE_BYTES
from service.flow.threads import Detached
from service.redis.client import Client, Command

STATE_KEY: Final = "ab:state:v1"
"""Has no time to live, so that a server which evicts keys with one never evicts it."""

_LOCK_PAUSE_SECONDS: Final = 0.01

# Returns [milliseconds, state], or [milliseconds] if the caller already knows the state.
_READ: Final = """
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local state = redis.call('GET', KEYS[1])
if state and redis.sha1hex(state) == ARGV[1] then return {now} end
return {now, state}
"""
_SWAP: Final = """
local state = redis.call('GET', KEYS[1])
if (state and redis.sha1hex(state) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class StateUnavailable(Exception):  # noqa: N818 - a state of the world and not a mistake
    """The store does not answer, or contains something else; the message names the problem."""


class Reading(NamedTuple):
    """The reply of the store."""

    content: bytes | None  # None: nothing was ever stored
    now_ms: int  # by one clock for all replicas, if the store has one


class StateStore(Protocol):
    """Keeps one state for all replicas."""

    async def read(self) -> Reading:
        """Return what is stored; StateUnavailable if that is not known."""

    async def swap(self, old: bytes | None, new: bytes) -> bool:
        """Store the new state if the old one is still stored; StateUnavailable if the outcome is not known."""


class RedisStateStore:
    """The state in one key of Redis; its scripts need the rights to EVAL, GET, SET and TIME."""

    def __init__(self, client: Client, key: str, timeout_seconds: float) -> None:
        self._client, self._key, self._timeout = client, key.encode(), timeout_seconds
        self._known: bytes | None = None

    async def read(self) -> Reading:
        """Return what is stored; a state that is known already is not sent again."""
        known = _sha1(self._known)
        reply = await self._run(_READ, known)
        if not isinstance(reply, list) or not reply:
            raise StateUnavailable("the state store gave an answer of another kind")
        if len(reply) > 1:
            self._known = reply[1]
        return Reading(self._known, int(reply[0]))

    async def swap(self, old: bytes | None, new: bytes) -> bool:
        """Store the new state if the old one is still stored."""
        return int(await self._run(_SWAP, _sha1(old), new)) == 1

    async def _run(self, script: str, *words: bytes | str) -> Any:  # Any: a reply, of a type that the script knows
        command = Command(self._key, ("EVAL", script, 1, self._key, *words))
        try:
            async with asyncio.timeout(self._timeout):
                [reply] = await self._client.run([command])
        except (RedisError, OSError, TimeoutError) as error:
            raise StateUnavailable(f"the state store does not answer ({type(error).__name__})") from error
        if isinstance(reply, BaseException):
            raise StateUnavailable(f"the state store refuses ({str(reply)[:80]})") from reply
        return reply


class FileStateStore:
    """The state in a file: replaced atomically, under a lock, so that a process killed during a write does no harm."""

    def __init__(
        self, path: Path, timeout_seconds: float, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._path, self._timeout, self._now_ms = path, timeout_seconds, now_ms
        self._detached = Detached("experiment-state")

    async def read(self) -> Reading:
        """Return what is stored."""
        return Reading(await self._run(lambda: read_state_file(self._path)), self._now_ms())

    async def swap(self, old: bytes | None, new: bytes) -> bool:
        """Store the new state if the old one is still stored."""
        return bool(await self._run(lambda: self._swap(old, new)))

    def _swap(self, old: bytes | None, new: bytes) -> bool:
        with _locked(self._path.with_name(self._path.name + ".lock"), self._timeout):
            if read_state_file(self._path) != old:
                return False
            write_state_file(self._path, new)
            return True

    async def _run(self, call: Callable[[], Any]) -> Any:  # Any: what the call returns
        try:
            return await self._detached.run(call, self._timeout)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or "it takes too long"
            raise StateUnavailable(f"the state file cannot be used ({reason})") from error


def read_state_file(path: Path) -> bytes | None:
    """Return the content of a file, or None if there is no file."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_STATE_BYTES + 1)
    except FileNotFoundError:
        return None


def write_state_file(path: Path, content: bytes) -> None:
    """Replace a file atomically: a reader always gets the old or the new content, even after a kill at any moment."""
    pending = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with pending.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        pending.replace(path)
    finally:
        pending.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _locked(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock of a file; the kernel releases it when the process ends in any way."""
    deadline = time.monotonic() + timeout_seconds
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                time.sleep(_LOCK_PAUSE_SECONDS)
        yield


def _sha1(content: bytes | None) -> str:
    """Return the same digest as Redis' `sha1hex`, only to distinguish states."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest() if content is not None else ""
