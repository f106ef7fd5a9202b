"""The callers in force: from the key that a request has to the caller whose key it is."""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple

from service.access.file import AccessFile, CallerEntry, Quota
from service.access.keys import HASH_PREFIX, KEY_LENGTH, digest_of, key_id
from service.access.pace import CALLER_SECONDS, Pace
from service.access.quotas import Meter
from service.access.scopes import Scope, with_included
from service.flow.gate import Gate, Part

_SCHEME: Final = b"bearer "
_VALUE_LENGTH: Final = len(_SCHEME) + KEY_LENGTH


class Caller:
    """One caller, for as long as the file has it: an edit of the file does not fill its quota again.

    Args:
        entry: of the file.
        share: of its quota that this process has.
        rankings: the gate of all rankings.
    """

    def __init__(self, entry: CallerEntry, share: float, rankings: Gate) -> None:
        self.id = entry.id
        self.scopes: frozenset[Scope] = frozenset()
        self._quota: Quota | None = None
        self.pace = Pace(CALLER_SECONDS)  # of its refusals
        self.rankings = Part(rankings)
        self.update(entry, share)

    def update(self, entry: CallerEntry, share: float) -> None:
        """Take the scopes and the quota of another version of the file."""
        self.scopes = with_included(entry.scopes)
        if entry.quota != self._quota:
            self._quota, self.meter = entry.quota, Meter(entry.quota, share)


class Key(NamedTuple):
    """A key in force."""

    id: str
    digest: bytes
    caller: Caller


class Callers:
    """All callers and keys in force.

    Args:
        share: of each quota that this process has.
        rankings: the gate of all rankings.
    """

    def __init__(self, share: float, rankings: Gate) -> None:
        self._share, self._rankings = share, rankings
        self._callers: dict[str, Caller] = {}
        self._keys: dict[bytes, Key] = {}

    def put(self, file: AccessFile) -> None:
        """Put a file in force, in one step: a key that is not in it stops working at once."""
        callers: dict[str, Caller] = {}
        keys: dict[bytes, Key] = {}
        for entry in file.callers:
            caller = self._callers.get(entry.id)
            if caller is None:
                caller = Caller(entry, self._share, self._rankings)
            else:
                caller.update(entry, self._share)
            callers[entry.id] = caller
            for text in entry.keys:
                digest = bytes.fromhex(text.removeprefix(HASH_PREFIX))
                keys[digest] = Key(key_id(digest), digest, caller)
        is_shared = sum("rank" in caller.scopes for caller in callers.values()) > 1
        for caller in callers.values():
            caller.rankings.is_shared = is_shared
        self._callers, self._keys = callers, keys

    def find(self, authorization: bytes) -> Key | None:
        """Return the key of an Authorization header, or None.

        The look-up compares digests. A caller cannot choose the digest of what it sends, so the time that a look-up
        takes tells nothing about the keys in force; the last comparison takes the same time for all of them.
        """
        if len(authorization) != _VALUE_LENGTH or authorization[: len(_SCHEME)].lower() != _SCHEME:
            return None
        digest = digest_of(authorization[len(_SCHEME) :])
        key = self._keys.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None
