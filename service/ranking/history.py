"""A user's history as a call knows it: the stored behaviours, and the recent ones that are not stored yet."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.records import Records, identities
from service.bundles.bundle import Bundle
from service.errors import DeadlineExceeded
from service.ranking.call import NO_RECORDS, RankCall
from service.store.behaviours import StoredBehaviours
from service.store.retention import fills

_UNAVAILABLE: Final = StoredBehaviours(NO_RECORDS, status="unavailable")
_MIX: Final = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def what_is_known(found: StoredBehaviours | Exception) -> StoredBehaviours:
    """Return the store's answer; a read that is too late has none."""
    if isinstance(found, DeadlineExceeded):
        return _UNAVAILABLE
    if isinstance(found, Exception):
        raise found
    return found


def fill_the_sequences(call: RankCall) -> bool:
    """Return whether what was read fills the sequence of every bundle that scores the call."""
    servings = [half.serving for half in call.halves] or [call.serving]
    return all(_fill_the_sequence(one.bundle, call.stored) for one in servings)


def _fill_the_sequence(bundle: Bundle, stored: StoredBehaviours) -> bool:
    if stored.notes is None:
        return fills(bundle, stored.records)
    key = ("fills", bundle.digest)
    if key not in stored.notes:
        stored.notes[key] = fills(bundle, stored.records)
    return bool(stored.notes[key])


def not_stored(recent: Records, stored: Records) -> Records:
    """Return each recent behaviour once, without those already stored, because callers store and send the same ones."""
    if not len(recent):
        return recent
    words = _mixed(recent)
    firsts = np.unique(words, return_index=True)[1]
    if len(firsts) < len(recent):
        firsts.sort()
        recent, words = recent[firsts], words[firsts]
    return recent[~np.isin(words, _mixed(stored))] if len(stored) else recent


def _mixed(records: Records) -> NDArray[np.uint64]:
    """Return each record's identity mixed into one word; sums wrap around."""
    return np.asarray((identities(records) * _MIX).sum(axis=1), dtype=np.uint64)
