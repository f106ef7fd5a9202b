"""Trim a stored history that has grown over its length, by the records that the served models can use.

The append script reports which histories need it: about one append in 250 of a user. The choice needs the models' item
vocabularies, so the service makes it: read the value, choose (service/store/retention.py), and replace it with the
chosen records, if only appends have happened in between. A trim that fails loses nothing: the next append asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Final

import structlog

from contract.behaviours.records import Records, pack, unpack
from service.bundles.bundle import Bundle
from service.metrics import Metrics
from service.redis.client import Client, Command
from service.store.append_script import REPLACE_SCRIPT, SLACK
from service.store.retention import USABLE, grades, retained

_AT_ONCE: Final = 32  # histories in one round trip: about 2 MB at most

_log = structlog.get_logger(__name__)


def longest(max_length: int) -> int:
    """Return the maximum number of records in a value: those that wait for a trim, and one more request."""
    return 2 * max_length + SLACK


class Trimmer:
    """Trims histories; never raises.

    Args:
        client: for writes.
        served: the bundles being served.
        most: records that a user keeps.
        observer: counts.
    """

    def __init__(self, client: Client, served: Callable[[], Sequence[Bundle]], most: int, observer: Metrics) -> None:
        self._client, self._served, self._most, self._observer = client, served, most, observer

    async def trim(self, keys: Sequence[bytes]) -> None:
        """Sort and trim the values of these keys."""
        try:
            for start in range(0, len(keys), _AT_ONCE):
                await self._trim(keys[start : start + _AT_ONCE])
        except Exception as error:  # the appended records are stored, and the next append asks for the trim again
            _log.warning("behaviours_trim_failed", error=type(error).__name__)

    async def _trim(self, keys: Sequence[bytes]) -> None:
        values = await self._client.run([Command(key, ("GETRANGE", key, 0, -1)) for key in keys])
        commands = []
        dropped = []
        for key, value in zip(keys, values, strict=True):
            if isinstance(value, bytes):
                kept, usable, other = self._chosen(unpack([value]).records)
                digest = sha1(value, usedforsecurity=False).hexdigest()
                commands.append(Command(key, ("EVAL", REPLACE_SCRIPT, 1, key, digest, len(value), pack(kept))))
                dropped.append((usable, other))
        replies = await self._client.run(commands)
        for (usable, other), reply in zip(dropped, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            if reply == 1:  # 0: another service was faster
                self._observer.behaviours_trimmed(usable=usable, other=other)

    def _chosen(self, records: Records) -> tuple[Records, int, int]:
        """Return the kept records, and how many usable and other records are dropped."""
        bundles = self._served()
        kept = retained(records, grades(bundles, records), self._most)
        usable = int((grades(bundles, records) == USABLE).sum() - (grades(bundles, kept) == USABLE).sum())
        return kept, usable, len(records) - len(kept) - usable
