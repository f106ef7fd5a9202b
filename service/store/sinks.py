"""The sinks of events: their streams, the spool, and the replay of the last process's spool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, SupportsBytes

import structlog

from contract.events.streams import ACTIVITY_STREAM, EXPOSURE_STREAM, RANKING_STREAM
from service.flow.supervision import Supervised, supervise_job
from service.metrics import Metrics
from service.redis.client import Client
from service.settings.root import Settings
from service.store.replay import Kept, Replay
from service.store.spool import Spool
from service.store.streams import EventSink, EventStream, Receipt

_RANKINGS: Final = 64  # in one write: making their bytes (5 us each) and packing them must not hold up the event loop
_OnDrop = Callable[[tuple[str, ...]], None]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sinks:
    """Takes exposures, feedback and rankings."""

    exposures: EventSink
    feedback: EventSink
    rankings: EventStream | None = None  # if rankings are logged
    # Called when the service is ready: a service that fails at each start would otherwise write the first events each
    # time.
    start_replay: Callable[[], None] = lambda: None


class Nowhere:
    """A sink that drops events, used if streams are off."""

    def __init__(self, on_drop: Callable[[tuple[str, ...]], None]) -> None:
        self._on_drop = on_drop

    def offer(self, event: SupportsBytes, labels: tuple[str, ...] = (), receipt: Receipt | None = None) -> bool:
        """Drop an event."""
        del event, receipt
        self._on_drop(labels)
        return False


def no_sinks(metrics: Metrics) -> Sinks:
    """Return sinks that drop and count everything."""
    return Sinks(Nowhere(metrics.exposure_dropped), Nowhere(metrics.feedback_dropped))


async def open_sinks(settings: Settings, client: Client, metrics: Metrics, stack: AsyncExitStack) -> Sinks:
    """Start the flushers and the replay; the stack stops them, and then closes the client."""
    streams, prefix = settings.streams, settings.redis.prefix
    spool = Spool(streams.spool, streams.spool_max_bytes)
    if streams.spool_max_bytes and (problem := await asyncio.to_thread(spool.check)):
        _log.error("spool_unusable", folder=str(streams.spool), error=problem)
    stack.push_async_callback(client.aclose)

    def stream(name: str, on_drop: _OnDrop, max_length: int, most: int = streams.max_batch) -> EventStream:
        made = EventStream(
            client,
            prefix + name,
            on_drop=on_drop,
            on_trim=lambda count: metrics.stream_trimmed(name, count),
            spool=spool,
            max_queue=streams.max_queue,
            max_length=max_length,
            max_batch=min(streams.max_batch, most),
            interval_seconds=streams.interval_ms / 1000,
            observer=metrics,
        )
        made.start()
        metrics.watch_stream(name, made.__len__)
        return made

    exposures = stream(EXPOSURE_STREAM, metrics.exposure_dropped, streams.max_length)
    feedback = stream(ACTIVITY_STREAM, metrics.feedback_dropped, streams.max_length)
    log = settings.ranking_log
    rankings = stream(RANKING_STREAM, metrics.ranking_dropped, log.max_length, _RANKINGS) if log.share else None
    opened = [one for one in (exposures, feedback, rankings) if one is not None]
    lengths = dict.fromkeys((EXPOSURE_STREAM, ACTIVITY_STREAM), streams.max_length) | {RANKING_STREAM: log.max_length}
    kept = {prefix + name: Kept(name, length) for name, length in lengths.items()}
    replay = Replay(spool, client, kept, metrics)
    replays: list[Supervised] = []

    def start_replay() -> None:
        replays.append(supervise_job("spool_replay", replay.run, metrics))

    async def close() -> None:
        for running in replays:
            await running.cancel()
        seconds = streams.close_timeout_ms / 1000
        await asyncio.gather(*[one.close(seconds) for one in opened])

    stack.push_async_callback(close)
    return Sinks(exposures, feedback, rankings, start_replay)
