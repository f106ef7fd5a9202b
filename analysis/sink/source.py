"""Where the sink's events come from: one stream, read through a consumer group.

An entry stays with the consumer (in Redis's list of pending entries) until it is acknowledged. Entries are removed from
the stream only when every group has acknowledged them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis.cluster import RedisCluster
from redis.exceptions import ResponseError

from analysis.sink.client import Client
from contract.events.streams import EVENT_FIELD

_PAGE: Final = 1_000  # entries in one reply
_PARSED: Final = frozenset({"XREADGROUP", "XAUTOCLAIM", "XPENDING"})  # replies are wanted as Redis sends them
_Id = tuple[int, int]


class Entry(NamedTuple):
    """One entry of a stream."""

    id: str
    event: bytes | None  # None: it was trimmed from the stream before it was acknowledged


class Lag(NamedTuple):
    """Distance between the newest event and the last acknowledged one."""

    entries: int
    seconds: float


class RedisSource:
    """A stream and a consumer of a group.

    Args:
        client: of `connect`.
        stream: the key.
        group: created at the start of the stream if there is none.
        consumer: no other process may read under this name at the same time.
        trim: remove entries that every group has acknowledged.
    """

    def __init__(self, client: Client, stream: str, group: str, consumer: str, *, trim: bool) -> None:
        self._client, self.stream, self._group, self._consumer, self._trim = client, stream, group, consumer, trim

    def open(self) -> None:
        """Create the group, unless it exists."""
        try:
            self._run("XGROUP CREATE", self.stream, self._group, "0", "MKSTREAM")
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def pending(self) -> list[Entry]:
        """Return every entry that was read under this consumer's name and not acknowledged, in order."""
        entries: list[Entry] = []
        after = "0"
        while page := self._read_group("COUNT", _PAGE, "STREAMS", self.stream, after):
            entries += page
            after = page[-1].id
        return entries

    def read(self, count: int, wait_seconds: float) -> list[Entry]:
        """Return new entries: at most `count` and a thousand, after waiting for the first of them; 0 does not wait."""
        wait = ("BLOCK", max(int(1000 * wait_seconds), 1)) if wait_seconds > 0 else ()
        return self._read_group("COUNT", min(count, _PAGE), *wait, "STREAMS", self.stream, ">")

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        """Acknowledge entries in one command, so that a crash leaves all or none of them pending."""
        if entries:
            self._run("XACK", self.stream, self._group, *(entry.id for entry in entries))

    def trim(self) -> int:
        """Remove the entries below the first one that some group still needs; return how many were removed."""
        if not self._trim:
            return 0
        needed = [self._first_needed(group) for group in self._groups()]
        if not needed:
            return 0
        return int(self._run("XTRIM", self.stream, "MINID", "=", _text(min(needed))))

    def claim(self, idle_seconds: int) -> int:
        """Take over entries that other consumers read long ago; return how many. They are then pending here."""
        claimed, cursor = 0, b"0-0"
        while True:
            words = (self._group, self._consumer, 1000 * idle_seconds, cursor, "COUNT", _PAGE, "JUSTID")
            cursor, ids, *_ = self._run("XAUTOCLAIM", self.stream, *words)
            claimed += len(ids)
            if cursor == b"0-0":
                return claimed

    def lag(self) -> Lag:
        """Return how far this group is behind; before Redis 7, `entries` is the length of the stream."""
        stream = _fields(self._run("XINFO STREAM", self.stream))
        group = next((group for group in self._groups() if group["name"] == self._group.encode()), None)
        if group is None:
            raise ResponseError(f"NOGROUP {self._group} was removed")
        delivered, newest = _id(group["last-delivered-id"]), _id(stream["last-generated-id"])
        if not group["pending"] and (newest <= delivered or not stream["length"]):
            return Lag(0, 0.0)
        unread = group.get("lag")
        entries = stream["length"] if unread is None else unread + group["pending"]
        first = stream["first-entry"]
        oldest = self._first_needed(group)
        if not group["pending"] and first is not None:
            oldest = max(oldest, _id(first[0]))
        return Lag(int(entries), max(time.time() - oldest[0] / 1000, 0.0))

    def _run(self, command: str, *words: Any) -> Any:  # Any: words and replies of different types
        client, words = self._client, (*command.split(), *words)
        if words[0] in _PARSED:  # redis-py splits the first argument at blanks, and knows no parser of this one
            words = (f"{words[0]} {words[1]}", *words[2:])
        if isinstance(client, RedisCluster):  # the node is given: redis-py would ask the server which word is the key
            return client.execute_command(*words, target_nodes=client.get_node_from_key(self.stream))  # type: ignore[no-untyped-call]
        return client.execute_command(*words)

    def _first_needed(self, group: dict[str, Any]) -> _Id:
        """Return the smallest id that a group has not acknowledged or not read."""
        smallest = self._run("XPENDING", self.stream, group["name"])[1] if group["pending"] else None
        milliseconds, number = _id(group["last-delivered-id"])
        return (milliseconds, number + 1) if smallest is None else _id(smallest)

    def _groups(self) -> list[dict[str, Any]]:
        return [_fields(group) for group in self._run("XINFO GROUPS", self.stream)]

    def _read_group(self, *words: object) -> list[Entry]:
        reply = self._run("XREADGROUP", "GROUP", self._group, self._consumer, *words)
        return [Entry(identifier.decode(), _event(fields)) for identifier, fields in (reply[0][1] if reply else ())]


def _event(fields: list[bytes] | None) -> bytes | None:
    """Return the event of an entry; an entry with other fields gives their text, which the sink rejects."""
    if not fields:
        return None
    return fields[1] if len(fields) == 2 and fields[0] == EVENT_FIELD else b" ".join(fields)


def _fields(reply: list[Any]) -> dict[str, Any]:  # Any: values of different types
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def _id(text: bytes) -> _Id:
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def _text(identifier: _Id) -> str:
    return f"{identifier[0]}-{identifier[1]}"
