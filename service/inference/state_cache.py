"""User states that were computed before, kept under the exact input they were computed from.

The key is the bundle's digest and a digest of the whole input row, so a hit is never stale: a new behaviour, another
bundle or another user gives another key. Entries are never invalidated; unused ones are evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any

from numpy.typing import NDArray

State = tuple[NDArray[Any], ...]  # Any: float32 or int64; one row of each output of `encode`, in the graph's order
StateKey = tuple[str, bytes]  # bundle digest, digest of the input row's bytes


class StateCache:
    """The most recently used states, within two limits; shared by all bundles and their threads.

    Args:
        max_entries: 0 keeps nothing.
        max_bytes: of all states' numbers; a model that keeps whole sequences needs thousands for each user.
    """

    def __init__(self, max_entries: int, max_bytes: int = 2**28) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._bytes = 0
        self._states: OrderedDict[StateKey, State] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """Return how many states are kept."""
        return len(self._states)

    def find(self, keys: Sequence[StateKey]) -> list[State | None]:
        """Return the state of each key, None where there is none; found ones become the most recently used."""
        with self._lock:
            found = [self._states.get(key) for key in keys]
            for key, state in zip(keys, found, strict=True):
                if state is not None:
                    self._states.move_to_end(key)
        return found

    def keep(self, states: Iterable[tuple[StateKey, State]]) -> None:
        """Keep states; the least recently used ones are evicted."""
        with self._lock:
            for key, state in states:
                self._bytes += _size(state) - _size(self._states.pop(key, ()))
                self._states[key] = state
                while len(self._states) > self._max_entries or self._bytes > self._max_bytes:
                    self._bytes -= _size(self._states.popitem(last=False)[1])


def _size(state: State) -> int:
    return sum(part.nbytes for part in state)
