"""From a batch's rows to the inputs of `encode`: vectorised, and without the steps that no row of the batch needs.

Symbols: B rows, R behaviours of all rows in one flat array, T sequence length.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.records import RECORD, Records
from contract.bundle.context import Codes, RequestFacts
from contract.bundle.tensors import Arrays, windows
from service.bundles.bundle import Bundle
from service.inference.new_items import NewItem
from service.inference.state_cache import StateKey
from service.inference.weighing import Weights

_FIELDS: Final = {"times": "time_ms", "actions": "action", "values": "value", "plays": "play_ms"}
_KEY_BYTES: Final = 16
_MAX_NOTES: Final = 8
_MAX_TIME_MS: Final = 2**63 - 1

_NO_CONTEXT: Final[Mapping[str, object]] = {}
_NONE: Final[Mapping[int, NewItem]] = {}

Notes = dict[Hashable, Any]  # Any: a row's facts, by the digest of the bundle


class RankRow(NamedTuple):
    """One request in the model's terms."""

    user_id: str
    records: Records  # stored and recent ones, in any order; of one time, the later in the array is the newer
    candidates: NDArray[np.int64]  # (N,) indices of known items, all > 0
    request_time_ms: int
    explain: bool = False
    notes: Notes | None = None  # to find what was derived from exactly these records before
    new: Sequence[NewItem] = ()  # further candidates, which training never met
    met: Mapping[int, NewItem] = _NONE  # such items in the records, by item key
    weights: Weights | None = None  # of the bundle's targets; None for its own
    context: Mapping[str, object] = _NO_CONTEXT  # of the request, by name
    unknown: int = 0  # further candidates of the request, which the model does not know


class Facts(NamedTuple):
    """The counts of the behaviours of a row, and the key of the state that they make."""

    key: StateKey
    used: int
    unread: int
    unknown: int
    truncated: int
    new: int = 0  # of those used, behaviours on items that training never met
    newest_ms: int | None = None  # of the behaviours that were read


class Made(NamedTuple):
    """The inputs of `encode` for some rows.

    Attributes:
        arrays: each (U, T) or (U,); item index `item_count` + 1 + c is the new item c.
        new: (C,) the new items.
        is_new: (U,) which rows have new items.
    """

    arrays: Arrays
    new: Sequence[NewItem]
    is_new: NDArray[np.bool_]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Made:
        """Return some of the rows."""
        return Made({name: array[rows] for name, array in self.arrays.items()}, self.new, self.is_new[rows])


class Inputs(NamedTuple):
    """The inputs of a batch."""

    rows: Sequence[RankRow]
    facts: Sequence[Facts]  # (B,)
    made: Mapping[int, int]  # place of a row whose arrays have been made, to its place in them
    inputs: Made  # of the U rows made


_NOTHING: Final = Made({}, (), np.zeros(0, dtype=np.bool_))


class _Flat(NamedTuple):
    """Behaviours of all rows, one row after another."""

    records: Records  # (R,)
    indices: NDArray[np.int64]  # (R,) of their items in the model's vocabulary
    counts: list[int]  # (B,)


class InputMaker:
    """Makes the inputs of one bundle's `encode`.

    Args:
        bundle: verified.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._sequence = bundle, bundle.manifest.sequence
        self._is_read = np.zeros(256, dtype=np.bool_)  # by action code
        self._is_read[self._sequence.action_codes] = True

    def make(self, rows: Sequence[RankRow]) -> Inputs:
        """Turn the rows' behaviours into the inputs of `encode`, in one go, but for the rows whose facts are noted."""
        digest = self._bundle.digest
        facts: list[Any] = [  # Any: Facts, but for None until they are made
            None if row.notes is None or row.met else row.notes.get(digest) for row in rows
        ]
        places = [place for place, noted in enumerate(facts) if noted is None]
        if not places:
            return Inputs(rows, facts, {}, _NOTHING)
        made, found = self._made([rows[place] for place in places])
        for place, one in zip(places, found, strict=True):
            facts[place] = one
            self._note(rows[place], one)
        return Inputs(rows, facts, {place: number for number, place in enumerate(places)}, made)

    def of(self, inputs: Inputs, places: list[int]) -> Made:
        """Return the inputs of `encode` for these rows of a batch, in this order."""
        if list(inputs.made) == places:
            return inputs.inputs
        if not inputs.made.keys() >= set(places):  # a state has left the cache, and its user's facts are still noted
            return self._made([inputs.rows[place] for place in places])[0]
        return inputs.inputs.take([inputs.made[place] for place in places])

    def context_of(self, inputs: Inputs, places: Sequence[int]) -> Codes | None:
        """Return the codes (R, F) of these rows' contexts; None if the bundle reads none.

        They take no part in the key of a state, which is the same in every context.
        """
        coder = self._bundle.context
        if coder is None:
            return None
        pairs = [(inputs.rows[place], inputs.facts[place]) for place in places]
        return coder.codes([RequestFacts(row.request_time_ms, one.newest_ms, row.context) for row, one in pairs])

    def _note(self, row: RankRow, facts: Facts) -> None:
        """Note what depends only on the records and on the bundle; the features of new items may change."""
        if row.notes is not None and not row.met and not self._sequence.row_inputs:
            if len(row.notes) >= _MAX_NOTES:  # of bundles that are served no more
                row.notes.clear()
            row.notes[self._bundle.digest] = facts

    def _made(self, rows: Sequence[RankRow]) -> tuple[Made, list[Facts]]:
        length = self._sequence.length
        # Joined as bytes: numpy concatenates structured arrays field by field, which costs five times as much.
        records = np.frombuffer(b"".join([row.records.tobytes() for row in rows]), dtype=RECORD)
        flat = _Flat(records, self._bundle.items.indices_of_keys(records["item"]), [len(row.records) for row in rows])
        new = self._number_new(flat, rows) if any(row.met for row in rows) else []
        flat, unread, unknown = self._usable(flat)
        flat = _in_order(flat)
        stops = _stops(flat.counts)
        starts = [stop - count for stop, count in zip(stops, flat.counts, strict=True)]
        arrays = windows(self._columns(flat), starts, stops, length) | self._row_inputs(rows)
        used = [min(count, length) for count in flat.counts]
        left = [count - read for count, read in zip(flat.counts, used, strict=True)]
        keys = self._keys(arrays, len(rows))
        newest = _newest(flat, stops)
        counts = np.zeros(len(rows), dtype=np.int64)
        if new:
            counts = (arrays["items"] > self._bundle.manifest.item_count).sum(axis=1)
            keys = self._keys_of_new(arrays, keys, new, counts)
        facts = list(map(Facts, keys, used, unread, unknown, left, counts.tolist(), newest))
        return Made(arrays, new, counts > 0), facts

    def _number_new(self, flat: _Flat, rows: Sequence[RankRow]) -> list[NewItem]:
        """Give behaviours on described new items their indices, after those of the vocabulary; return the items."""
        first, numbers, new = self._bundle.manifest.item_count + 1, dict[bytes, int](), list[NewItem]()
        start = 0
        for row, count in zip(rows, flat.counts, strict=True):
            part, start = slice(start, start + count), start + count
            for key, item in row.met.items():
                number = numbers.setdefault(item.key, len(new))
                if number == len(new):
                    new.append(item)
                places = flat.records["item"][part] == key
                flat.indices[part][places & (flat.indices[part] == 0)] = first + number
        return new

    def _keys_of_new(
        self, arrays: Arrays, keys: Sequence[StateKey], new: Sequence[NewItem], counts: NDArray[np.int64]
    ) -> list[StateKey]:
        """Return the keys of states, in which new items stand for themselves: their numbers are those of a batch."""
        found, first = list(keys), self._bundle.manifest.item_count + 1
        for row in np.flatnonzero(counts).tolist():
            items = arrays["items"][row]
            is_new = items >= first
            content = [np.where(is_new, first, items).tobytes()]
            content += [
                np.ascontiguousarray(arrays[name][row]).tobytes() for name in self._sequence.names if name != "items"
            ]
            content += [new[number - first].key for number in items[is_new].tolist()]
            found[row] = (
                self._bundle.digest,
                blake2b(b"".join(content), digest_size=_KEY_BYTES, person=b"new").digest(),
            )
        return found

    def _usable(self, flat: _Flat) -> tuple[_Flat, list[int], list[int]]:
        """Leave out behaviours that the model cannot use; count those that it does not read or know, by row."""
        B = len(flat.counts)
        is_read, is_known = self._is_read[flat.records["action"]], flat.indices != 0
        is_usable = is_read & is_known
        if is_usable.all():
            return flat, [0] * B, [0] * B
        row_of = np.repeat(np.arange(B), flat.counts)
        unread = np.bincount(row_of[~is_read], minlength=B)
        unknown = np.bincount(row_of[is_read & ~is_known], minlength=B)
        counts = (np.array(flat.counts) - unread - unknown).tolist()
        return _Flat(flat.records[is_usable], flat.indices[is_usable], counts), unread.tolist(), unknown.tolist()

    def _columns(self, flat: _Flat) -> Arrays:
        return {
            name: flat.indices if name == "items" else flat.records[_FIELDS[name]].astype(np.int64)
            for name in self._sequence.columns
        }

    def _row_inputs(self, rows: Sequence[RankRow]) -> Arrays:
        users = self._bundle.users
        inputs: Arrays = {}
        for name in self._sequence.row_inputs:
            if name == "user":
                ids = [row.user_id for row in rows]
                inputs[name] = np.zeros(len(ids), dtype=np.int64) if users is None else users.indices(ids)
            else:
                times = [min(max(row.request_time_ms, 0), _MAX_TIME_MS) for row in rows]
                inputs[name] = np.array(times, dtype=np.int64)
        return inputs

    def _keys(self, arrays: Arrays, B: int) -> list[StateKey]:
        parts = [arrays[name].reshape(B, -1) for name in self._sequence.names]
        table = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        content, size = table.tobytes(), table.shape[1] * table.itemsize
        digest = self._bundle.digest
        return [
            (digest, blake2b(content[start : start + size], digest_size=_KEY_BYTES).digest())
            for start in range(0, B * size, size)
        ]


def _in_order(flat: _Flat) -> _Flat:
    """Sort each row's behaviours by time; of one time, the later is the newer."""
    times = flat.records["time_ms"]
    falls = np.flatnonzero(times[1:] < times[:-1]) + 1
    if not len(falls) or set(_stops(flat.counts)).issuperset(falls.tolist()):
        return flat
    row_of = np.repeat(np.arange(len(flat.counts)), flat.counts)
    order = np.lexsort((times, row_of))  # stable
    return _Flat(flat.records[order], flat.indices[order], flat.counts)


def _newest(flat: _Flat, stops: Sequence[int]) -> list[int | None]:
    """Return the time of each row's newest behaviour; None if it has none."""
    lasts = [stop - 1 for stop, count in zip(stops, flat.counts, strict=True) if count]
    times = iter(flat.records["time_ms"][lasts].tolist())
    return [next(times) if count else None for count in flat.counts]


def _stops(counts: Sequence[int]) -> list[int]:
    return list(accumulate(counts))
