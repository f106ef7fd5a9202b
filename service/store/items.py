"""Stored features of items: written by callers, read once, and kept in the process.

One Redis string per item under `<prefix>item:{<item id>}`: MessagePack of an object, features by name. A ranking never
waits for it: features that are not in memory are read in the background, and the next ranking of the item has them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from service.metrics import Metrics
from service.redis.client import Client, Command
from service.redis.errors import LeftAlone, kind_of
from service.store.behaviours import StoreUnavailable

Features = Mapping[str, object]

MAX_BYTES: Final = 16_384  # of one item, packed
MAX_KEPT: Final = 50_000
"""Items in memory, those without features too: about 50 MB with twenty features each."""
FRESH_SECONDS: Final = 60.0
"""After this time an item is read again: other processes may have stored its features."""
_AT_ONCE: Final = 500  # items of one round trip
_MAX_WAITING: Final = 10_000  # items to be read; more are read when they are asked for again

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode

_log = structlog.get_logger(__name__)


class ItemStore:
    """Features of items in Redis and in memory.

    Args:
        reads: client of reads.
        writes: client of writes.
        ttl_seconds: how long features are kept; 0 means forever.
        observer: counts.
        prefix: the prefix of every key (RANKER_REDIS__PREFIX).
        clock: seconds.
    """

    def __init__(
        self,
        reads: Client,
        writes: Client,
        *,
        ttl_seconds: int,
        observer: Metrics,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reads, self._writes, self._ttl = reads, writes, ttl_seconds
        self._observer, self._clock = observer, clock
        self._prefix = prefix.encode() + b"item:{"
        self._kept: dict[str, tuple[float, Features | None]] = {}  # oldest first; with the time of reading
        self._waiting: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None

    def find(self, item_ids: Iterable[str]) -> dict[str, Features]:
        """Return the features that are in memory; the others, and old ones, are read for the next time."""
        found: dict[str, Features] = {}
        now = self._clock()
        for item_id in item_ids:
            read_at, features = self._kept.get(item_id, (-FRESH_SECONDS, None))
            if features is not None:
                found[item_id] = features
            if now - read_at >= FRESH_SECONDS and len(self._waiting) < _MAX_WAITING:
                self._waiting[item_id] = None
        if self._waiting and self._task is None:
            self._task = asyncio.create_task(self._read_all())
        return found

    async def store(self, items: Mapping[str, Features]) -> None:
        """Store features of items in place of their earlier ones.

        Raises:
            StoreUnavailable: not all were stored; storing them again is safe.
        """
        expiry = ("EX", self._ttl) if self._ttl else ()
        packed = {item_id: _encode(features) for item_id, features in items.items()}
        commands = [Command(key, ("SET", key, packed[one], *expiry)) for one, key in self._keys(items)]
        replies = await self._writes.run(commands)
        self._count_errors(replies)
        for item_id, reply in zip(items, replies, strict=True):
            if not isinstance(reply, Exception):
                self._keep(item_id, items[item_id])
        if any(isinstance(reply, Exception) for reply in replies):
            raise StoreUnavailable

    async def close(self) -> None:
        """Stop reading, and close the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for client in (self._reads, self._writes):
            await client.aclose()

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                wanted = list(self._waiting)[:_AT_ONCE]
                await self._read(wanted)
                for item_id in wanted:
                    self._waiting.pop(item_id, None)
        except Exception as error:  # the next ranking starts a new task
            self._waiting.clear()
            _log.warning("items_not_read", error=type(error).__name__)
        finally:
            self._task = None

    async def _read(self, item_ids: Sequence[str]) -> None:
        commands = [Command(key, ("GETRANGE", key, 0, MAX_BYTES)) for _, key in self._keys(item_ids)]
        try:
            replies = await self._reads.run(commands)
        except Exception as error:
            replies = [error] * len(item_ids)
        self._count_errors(replies)
        for item_id, reply in zip(item_ids, replies, strict=True):
            known = self._kept.get(item_id, (0.0, None))[1]
            self._keep(item_id, known if isinstance(reply, Exception) else _unpacked(reply))

    def _keep(self, item_id: str, features: Features | None) -> None:
        self._kept.pop(item_id, None)
        while len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[item_id] = self._clock(), features

    def _keys(self, item_ids: Iterable[str]) -> list[tuple[str, bytes]]:
        return [(one, self._prefix + one.encode("utf-8", "surrogatepass") + b"}") for one in item_ids]

    def _count_errors(self, replies: Sequence[object]) -> None:
        for error in {id(reply): reply for reply in replies if isinstance(reply, Exception)}.values():
            if not isinstance(error, LeftAlone):
                self._observer.store_error(kind_of(error))


def packed_size(features: Features) -> int:
    """Return how many bytes the features take in Redis."""
    return len(_encode(features))


def _unpacked(value: object) -> Features | None:
    """Return the features of a stored value; None for none, and for bytes that another program wrote."""
    if not isinstance(value, bytes) or not value:
        return None
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
