"""One sink as a process: a thread for each stream, a lock on its name, an end without loss at SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from redis.exceptions import RedisError

from analysis.sink.client import connect
from analysis.sink.events import KINDS, Kind, Reader
from analysis.sink.files import Files
from analysis.sink.lock import locked
from analysis.sink.log import log
from analysis.sink.metrics import Metrics
from analysis.sink.settings import SinkSettings
from analysis.sink.source import RedisSource
from analysis.sink.worker import Worker
from contract.command_line import CommandError, one_line


def run_sink(settings: SinkSettings, folder: Path, *, once: bool) -> None:
    """Copy the streams to Parquet until SIGTERM or SIGINT, or with `once` until they are empty.

    Raises:
        CommandError: another sink uses the folder under this name, or with `once` Redis does not answer.
    """
    stop = threading.Event()
    problem = f"another sink named {settings.consumer!r} writes to this folder; give each its own --consumer"
    with locked(folder, settings.consumer, problem), _stopped_by_signals(stop):
        metrics = Metrics([kind.table for kind in KINDS], settings.reports)
        if settings.metrics_port and not once:
            metrics.serve(settings.metrics_host, settings.metrics_port)
        workers = [_worker(kind, settings, folder, metrics, stop, once=once) for kind in KINDS]
        log("sink_started", redis=str(settings.address), out=str(folder), consumer=settings.consumer)
        _run(workers, stop)
        log("sink_stopped", rows=sum(worker.rows for worker in workers))


def _worker(
    kind: Kind, settings: SinkSettings, folder: Path, metrics: Metrics, stop: threading.Event, *, once: bool
) -> Worker:
    client = connect(settings.address, settings.timeout_seconds)
    source = RedisSource(client, settings.prefix + kind.stream, settings.group, settings.consumer, trim=settings.trim)
    files = Files(folder, Reader(kind), settings.consumer)
    return Worker(source, files, kind.table, settings, metrics, stop, once=once)


def _run(workers: list[Worker], stop: threading.Event) -> None:
    """Run each worker in its thread; if one fails, all stop."""
    with ThreadPoolExecutor(len(workers)) as threads:
        futures = [threads.submit(worker.run) for worker in workers]
        wait(futures, return_when=FIRST_EXCEPTION)
        if any(future.done() and future.exception() for future in futures):
            stop.set()
        try:
            for future in futures:
                future.result()
        except RedisError as error:
            raise CommandError(f"Redis: {one_line(str(error))}") from None


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    def note(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
