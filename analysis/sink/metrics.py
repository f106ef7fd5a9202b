"""Metrics of the sink (docs/sink.md describes them)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server

from analysis.sink.files import Written
from analysis.sink.reports import Reports
from analysis.sink.source import Lag

KINDS = ("json", "version", "field", "type", "time")
STEPS = ("redis", "disk")


class Metrics:
    """Counters and gauges, by table; with a folder of reports, also theirs."""

    def __init__(self, tables: Sequence[str], reports: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        if reports is not None:
            self.registry.register(Reports(reports))
        self._rows = self._counter("rows", "Events written to Parquet; an event that is written again counts again.")
        self._rejected = self._counter("rejected", "Damaged events, kept in the folder `rejected`.", "kind")
        self._lost = self._counter("lost", "Events trimmed from the stream after they were read and before the write.")
        self._files = self._counter("files", "Files written.")
        self._bytes = self._counter("bytes", "Bytes of the files written.")
        self._trimmed = self._counter("trimmed", "Entries removed from the stream, all acknowledged.")
        self._failures = self._counter("failures", "Failed tries; each is repeated until it succeeds.", "step")
        self._lag_entries = self._gauge("lag_entries", "Events that are not yet acknowledged.")
        self._lag_seconds = self._gauge("lag_seconds", "Age of the oldest event that is not yet acknowledged.")
        self._last_write = self._gauge("last_write_timestamp_seconds", "Time of the last acknowledged write.")
        for table in tables:
            for one in (self._rows, self._lost, self._files, self._bytes, self._trimmed):
                one.labels(table)
            for gauge in (self._lag_entries, self._lag_seconds, self._last_write):
                gauge.labels(table)
            for kind in KINDS:
                self._rejected.labels(table, kind)
            for step in STEPS:
                self._failures.labels(table, step)

    def serve(self, host: str, port: int) -> None:
        """Open the port for Prometheus.

        Raises:
            OSError: it is in use.
        """
        start_http_server(port, host, self.registry)

    def written(self, table: str, written: Written, trimmed: int) -> None:
        """Count one acknowledged batch."""
        self._rows.labels(table).inc(written.rows)
        self._lost.labels(table).inc(written.lost)
        self._files.labels(table).inc(written.files)
        self._bytes.labels(table).inc(written.bytes)
        self._trimmed.labels(table).inc(trimmed)
        self._last_write.labels(table).set(time.time())
        for kind, count in written.rejected.items():
            self._rejected.labels(table, kind).inc(count)

    def failed(self, table: str, step: str) -> None:
        """Count one failed try."""
        self._failures.labels(table, step).inc()

    def lags(self, table: str, lag: Lag) -> None:
        """Note the distance to the newest event."""
        self._lag_entries.labels(table).set(lag.entries)
        self._lag_seconds.labels(table).set(lag.seconds)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ranker_sink_{name}", text, ("table", *labels), registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"ranker_sink_{name}", text, ("table",), registry=self.registry)
