"""Garbage collection that hardly any request waits for.

A full collection visits every object that can be part of a cycle: about 100,000 of modules and classes after start, for
60 to 90 ms or more on a busy machine, and nothing else runs meanwhile. These objects stay until the process ends, so
they are left out of every collection. Bundles are loaded later and are not left out: a bundle that is replaced can be
collected.

A request makes no cycles when it goes well: counting frees it. Young objects are therefore collected less often.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

# More than the requests under way have together, or each collection would visit them all and find nothing.
_YOUNG_OBJECTS: Final = 10_000


@contextmanager
def rare_collections(observe: Callable[[int, float], None]) -> Iterator[None]:
    """Leave all that is there now out of garbage collections, and collect less often, until the block ends.

    Args:
        observe: called with the generation and the seconds of each collection, in the thread that it stopped.
    """
    thresholds = gc.get_threshold()
    pauses = _Pauses(observe)
    gc.collect()
    gc.freeze()
    gc.enable()  # service/process/early.py
    gc.set_threshold(_YOUNG_OBJECTS, *thresholds[1:])
    gc.callbacks.append(pauses)
    try:
        yield
    finally:
        gc.callbacks.remove(pauses)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class _Pauses:
    """Times collections; the interpreter runs one at a time, in any thread."""

    def __init__(self, observe: Callable[[int, float], None]) -> None:
        self._observe, self._began = observe, 0.0

    def __call__(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self._observe(info["generation"], time.perf_counter() - self._began)
