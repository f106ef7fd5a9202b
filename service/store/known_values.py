"""The contents of the values that were read last: a user's behaviours that have not changed are not decoded again.

A value is found by all of its bytes, so that what is found is never stale. With it comes what others have derived from
exactly these behaviours, such as the key of the user's state.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final, Literal, NamedTuple

from contract.behaviours.records import Records

Status = Literal["ok", "unavailable", "wrong_type"]
Notes = dict[Hashable, Any]  # Any: each writer has a key of its own, and knows the type of its value

_ENTRY_BYTES: Final = 1_024  # of memory, beside the value itself


class StoredBehaviours(NamedTuple):
    """The content of one user's key."""

    records: Records  # as stored: oldest first, newest last, late ones not yet sorted in
    corrupt: int = 0  # records dropped: torn, altered or foreign
    status: Status = "ok"
    truncated: bool = False  # older ones exist that were not read
    notes: Notes | None = None  # what was derived from these records; None: they will not be found again


class KnownValues:
    """The values used last, within a limit; on the event loop only.

    Args:
        max_bytes: of memory, about; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._known: OrderedDict[bytes, StoredBehaviours] = OrderedDict()

    def find(self, value: object) -> StoredBehaviours | None:
        """Return the content of a value, or None if it is not known."""
        found = self._known.get(value) if self._known and isinstance(value, bytes) else None
        if found is not None:
            self._known.move_to_end(value)  # type: ignore[arg-type]  # mypy forgets what the line above asked
        return found

    def keep(self, value: bytes, stored: StoredBehaviours) -> StoredBehaviours:
        """Keep the content of a value, and return it with room for notes."""
        known = self._known.get(value)
        if known is not None:  # two requests of one user were read together
            return known
        size = _ENTRY_BYTES + 2 * len(value)  # the value, and a copy of its records
        if size > self._max_bytes:
            return stored
        records = stored.records.copy()  # or one value would hold the whole batch in memory
        records.flags.writeable = False
        kept = self._known[value] = stored._replace(records=records, notes={})
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._bytes -= _ENTRY_BYTES + 2 * len(self._known.popitem(last=False)[0])
        return kept
