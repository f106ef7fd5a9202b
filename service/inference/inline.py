"""Small batches run on the event loop: a hop to a thread and back costs more CPU than the run itself (ADR 0136).

The event loop is blocked meanwhile, so only batches that are expected to be quick run here, and a thread ends a run
that turns out not to be. The bundle's batches then go to the inference threads for a while.
"""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol

_QUICK_SECONDS: Final = 0.004  # what a batch may be expected to take
_LONGEST_SECONDS: Final = 0.1  # when the thread ends it
_AWAY_SECONDS: Final = 60.0  # for a bundle whose run had to be ended
_WEIGHT: Final = 0.1  # of the newest batch in the average
_TICK_SECONDS: Final = 0.02
_REST_SECONDS: Final = 1.0  # without a run, until the thread sleeps


class EndsRuns(Protocol):
    """The engine's methods that are used here."""

    def end_runs(self) -> None:
        """End the runs under way, from any thread."""


class InlineRuns:
    """Decides for one bundle which batches run on the event loop.

    Args:
        is_possible: whether any may: on a GPU, waiting for a run is waiting for another device.
    """

    def __init__(self, is_possible: bool) -> None:
        self._is_possible = is_possible
        self._row_seconds = _QUICK_SECONDS  # only one row, until a run has been measured
        self._not_before = 0.0

    def fits(self, rows: int) -> bool:
        """Return whether a batch is expected to be quick."""
        return self._is_possible and rows * self._row_seconds <= _QUICK_SECONDS and self._not_before < time.monotonic()

    def note(self, rows: int, seconds: float) -> None:
        """Note how long a batch took."""
        self._row_seconds += _WEIGHT * (seconds / rows - self._row_seconds)

    def stop(self) -> None:
        """Let no batch run here for a while."""
        self._not_before = time.monotonic() + _AWAY_SECONDS

    def watched(self, engine: EndsRuns) -> _Watch:
        """End the engine's run if it takes longer than it may; for a `with` statement around the run."""
        _WATCH.begin(engine)
        return _WATCH


class _Watch:
    """One thread for all bundles: the event loop runs one batch at a time."""

    def __init__(self) -> None:
        self._engine: EndsRuns | None = None
        self._began = 0.0
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, engine: EndsRuns) -> None:
        self._began = time.monotonic()
        self._engine = engine
        if not self._awake.is_set():
            self._awake.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="inline-watch", daemon=True)
                self._thread.start()

    def __enter__(self) -> None:
        """Do nothing: the run has begun."""

    def __exit__(self, *_: object) -> None:
        """Stop: the run is over."""
        self._engine = None

    def _run(self) -> None:
        while True:
            self._awake.wait()
            time.sleep(_TICK_SECONDS)
            engine, waited = self._engine, time.monotonic() - self._began
            if engine is not None and waited > _LONGEST_SECONDS:
                engine.end_runs()
            elif engine is None and waited > _REST_SECONDS:
                self._awake.clear()
                if self._engine is not None:  # a run has begun just now and found the thread awake
                    self._awake.set()


_WATCH: Final = _Watch()
