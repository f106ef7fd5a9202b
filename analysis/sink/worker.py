"""The loop for one stream: read a batch, write it, acknowledge it, trim.

Any failure drops the batch in memory and starts again with the entries that are read and not acknowledged, exactly as
after a crash. There is one way to recover, and each failure uses it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from redis.exceptions import RedisError

from analysis.sink.files import Files
from analysis.sink.log import log
from analysis.sink.metrics import Metrics
from analysis.sink.settings import SinkSettings
from analysis.sink.source import Entry, RedisSource

_WAIT_SECONDS: Final = 0.5  # for new entries; a signal waits for it
_RETRY_SECONDS: Final = (0.2, 1.0, 5.0)  # between failed tries; the last one repeats
_CLAIM_EVERY_SECONDS: Final = 30.0
_LAG_EVERY_SECONDS: Final = 2.0


class Worker:
    """Copies one stream to its table.

    Args:
        source: the stream.
        files: the table.
        table: its name.
        settings: sizes and times of batches.
        metrics: counts.
        stop: set to end; the batch in memory is written first.
        once: end when there are no new events, and on the first failure.
    """

    def __init__(
        self,
        source: RedisSource,
        files: Files,
        table: str,
        settings: SinkSettings,
        metrics: Metrics,
        stop: threading.Event,
        *,
        once: bool,
    ) -> None:
        self._source, self._files, self._table = source, files, table
        self._settings, self._stop, self._once = settings, stop, once
        self.metrics = metrics
        self._claimed_at = self._lag_at = 0.0
        self.rows = 0

    def run(self) -> None:
        """Copy until told to stop.

        Raises:
            RedisError, OSError: with `once` only.
        """
        failures = 0
        while not self._stop.is_set():
            try:
                self._recover()
                failures = 0
                self._copy()
                return
            except (RedisError, OSError) as error:
                step = "redis" if isinstance(error, RedisError) else "disk"
                self.metrics.failed(self._table, step)
                if self._once:
                    raise
                log("sink_failed", "error", table=self._table, step=step, error=f"{type(error).__name__}: {error}")
                self._stop.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1

    def _recover(self) -> None:
        """Write what an earlier run or try has read and not acknowledged, as one batch, as it was."""
        self._source.open()
        self._finish(self._source.pending())

    def _copy(self) -> None:
        while not self._stop.is_set():
            entries = self._gather()
            self._finish(entries)
            self._claim()
            self._watch()
            if self._once and not entries:
                return

    def _gather(self) -> list[Entry]:
        """Read new entries until there are enough of them, or the first has waited long enough."""
        entries: list[Entry] = []
        size, deadline = 0, 0.0
        while room := self._room(len(entries), size):
            page = self._source.read(room, 0 if self._once else _WAIT_SECONDS)
            if page and not entries:
                deadline = time.monotonic() + self._settings.batch_seconds
            entries += page
            size += sum(len(entry.event or b"") for entry in page)
            self._watch()
            if not page if self._once else not entries or time.monotonic() >= deadline:
                break
        return entries

    def _room(self, count: int, size: int) -> int:
        """Return how many more entries a batch may take; none when the sink stops."""
        is_full = size >= self._settings.batch_bytes or self._stop.is_set()
        return 0 if is_full else self._settings.batch_rows - count

    def _finish(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        started = time.monotonic()
        written = self._files.write(entries)
        self._source.acknowledge(entries)
        self.rows += written.rows
        trimmed = self._source.trim()
        self.metrics.written(self._table, written, trimmed)
        log(
            "sink_wrote", table=self._table, rows=written.rows, files=written.files, bytes=written.bytes,
            seconds=round(time.monotonic() - started, 3), last=entries[-1].id,
        )  # fmt: skip
        if written.rejected or written.lost:
            log("sink_incomplete", "warning", table=self._table, rejected=written.rejected, lost=written.lost)

    def _claim(self) -> None:
        if time.monotonic() - self._claimed_at < _CLAIM_EVERY_SECONDS:
            return
        self._claimed_at = time.monotonic()
        claimed = self._source.claim(self._settings.claim_seconds)
        if claimed:
            log("sink_claimed", "warning", table=self._table, entries=claimed)
            self._finish(self._source.pending())

    def _watch(self) -> None:
        if time.monotonic() - self._lag_at >= _LAG_EVERY_SECONDS:
            self.metrics.lags(self._table, self._source.lag())
            self._lag_at = time.monotonic()
