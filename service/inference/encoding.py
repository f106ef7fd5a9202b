"""The states of a batch: cached ones as they are, the others from one run of `encode`.

Symbols: U distinct states among the rows of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.bundles.bundle import Bundle
from service.inference.device import leading
from service.inference.engine import Engine, EngineError, Outputs
from service.inference.inputs import InputMaker, Inputs, Made
from service.inference.state_cache import State, StateCache, StateKey

Array = NDArray[Any]  # Any: float32 or int64, by the manifest


class States(NamedTuple):
    """The distinct states of some rows."""

    outputs: Outputs  # of `encode`, each (U, ...); of cached states only those that are needed
    slots: Mapping[StateKey, int]  # to the row of `outputs`
    new: frozenset[StateKey]


class Encoding:
    """Finds or encodes the states of one bundle.

    Args:
        bundle: verified.
        engine: runs its graphs.
        cache: of states, shared between bundles.
        maker: makes the inputs of `encode`.
    """

    def __init__(self, bundle: Bundle, engine: Engine, cache: StateCache, maker: InputMaker) -> None:
        self._engine, self._cache, self._maker = engine, cache, maker
        self.names = [spec.name for spec in bundle.manifest.encode.outputs]
        self._state_numbers = [self.names.index(name) for name in bundle.manifest.state]

    def of(self, work: Inputs, places: list[int]) -> States:
        """Return the states of these rows: cached ones as they are, the others encoded, identical rows once."""
        slots: dict[StateKey, int] = {}
        first: list[int] = []  # of each slot, a row that has its input
        for place in places:
            key = work.facts[place].key
            if key not in slots:
                slots[key] = len(slots)
                first.append(place)
        keys = list(slots)
        found = self._cache.find(keys)
        missing = [slot for slot, state in enumerate(found) if state is None]
        if not missing:
            explains = any(work.rows[place].explain for place in places)
            return States(self._joined([state for state in found if state], explains), slots, frozenset())
        rows = [first[slot] for slot in missing]
        encoded = self._encoded(self._maker.of(work, rows))
        if any(leading(encoded, name) != len(missing) for name in self.names):
            raise EngineError("encode: not one state for each row")
        new = frozenset([keys[slot] for slot in missing])
        if len(missing) == len(found):
            return States(encoded, slots, new)
        fresh = [encoded[name] for name in self.names]
        outputs = dict(zip(self.names, _interleave(found, fresh, missing), strict=True))
        return States(outputs, slots, new)

    def _encoded(self, made: Made) -> Outputs:
        """Return the outputs of `encode`: rows with new items go through the graph that reads them."""
        if not made.new or not made.is_new.any():
            return self._engine.encode(made.arrays)
        graphs = self._engine.new_items
        assert graphs is not None
        history = graphs.behaviours(made.new)
        if made.is_new.all():
            return graphs.encode(made.arrays, history)
        parts = np.flatnonzero(made.is_new), np.flatnonzero(~made.is_new)
        found = graphs.encode(made.take(parts[0]).arrays, history), self._engine.encode(made.take(parts[1]).arrays)
        order = np.concatenate(parts).argsort()
        return {name: np.concatenate([one[name] for one in found])[order] for name in self.names}

    def _joined(self, states: Sequence[State], explains: bool) -> dict[str, Array]:
        """Put cached states together: the outputs that `score` reads, or all if an explanation is wanted."""
        numbers = range(len(self.names)) if explains else self._state_numbers
        return {self.names[number]: _stacked([state[number] for state in states]) for number in numbers}

    def keep(self, states: States, failed: set[StateKey]) -> None:
        """Keep new states, but none that led to a failure; copied, or one row would hold the whole batch in memory."""
        self._cache.keep(
            (key, tuple([states.outputs[name][slot].copy() for name in self.names]))
            for key, slot in states.slots.items()
            if key in states.new and key not in failed
        )


def _stacked(parts: Sequence[Array]) -> Array:
    """Return what np.stack returns, in a third of its time for a few small arrays; a view of only one."""
    if len(parts) == 1:
        single: Array = parts[0][None]
        return single
    if not parts[0].ndim:
        return np.stack(parts)
    return np.concatenate(parts).reshape(len(parts), *parts[0].shape)


def _interleave(found: Sequence[State | None], fresh: Sequence[Array], missing: Sequence[int]) -> list[Array]:
    """Put cached and fresh states together, in slot order."""
    outputs = [np.empty((len(found), *output.shape[1:]), dtype=output.dtype) for output in fresh]
    hits = [(slot, state) for slot, state in enumerate(found) if state is not None]
    for number, output in enumerate(outputs):
        output[missing] = fresh[number]
        for slot, state in hits:
            output[slot] = state[number]
    return outputs
