"""Refused bundles, which are not tried again at every check of the experiment file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from service.bundles.files import Identity

Model = tuple[str, str]  # name, version

_PAUSE_SECONDS: Final = (30.0, 60.0, 120.0, 300.0, 900.0)  # before a bundle is tried again; the last one repeats
_MAX_KEPT: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Refusal:
    identity: Identity
    problem: str
    until: float | None  # None: as long as the files stay the same
    times: int


class Refusals:
    """Refused bundles, and whether each is worth another try.

    A bundle refused for the content of its files is tried again when a file changes. One refused for how it ran, which
    may be caused by the machine, is also tried again after a growing pause.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refused: dict[Model, _Refusal] = {}

    def of(self, model: Model, identity: Identity) -> str | None:
        """Return why a bundle is still refused, or None if it is worth a try."""
        known = self._refused.get(model)
        if known is None or known.identity != identity:
            return None
        return known.problem if known.until is None or self._clock() < known.until else None

    def note(self, model: Model, identity: Identity, problem: str, *, for_good: bool) -> bool:
        """Remember a refusal; return whether it is new."""
        known = self._refused.pop(model, None)
        same = known is not None and known.identity == identity
        times = known.times + 1 if known is not None and same else 0
        pause = _PAUSE_SECONDS[min(times, len(_PAUSE_SECONDS) - 1)]
        self._refused[model] = _Refusal(identity, problem, None if for_good else self._clock() + pause, times)
        if len(self._refused) > _MAX_KEPT:
            del self._refused[next(iter(self._refused))]
        return known is None or not same or known.problem != problem

    def forget(self, model: Model | None = None) -> None:
        """Forget one refusal, or all: every bundle is worth a try."""
        if model is None:
            self._refused.clear()
        else:
            self._refused.pop(model, None)
