"""The section `streams`: exposures and feedback written to Redis streams."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from service.settings.group import Count, Group, Milliseconds, Pause, RedisUrl


class StreamsSettings(Group):
    """Exposures and feedback written to Redis streams."""

    enabled: bool = True
    """Write exposures and feedback; if off, exposures count as dropped."""
    url: RedisUrl | None = None
    """The Redis of the streams, written like `redis.url`; empty uses that one, where full streams evict behaviours."""
    max_queue: Count = 10_000
    """Maximum number of events of one stream in memory; further ones are dropped and counted."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Maximum number of events in one write."""
    interval_ms: Milliseconds = 200
    """How long (ms) an event may wait for others to be written with."""
    max_length: Annotated[int, Field(ge=1, le=10**12)] = 400_000
    """Approximate number of events that a stream keeps; two of the default length need at most 800 MB."""
    write_timeout_ms: Milliseconds = 1_000
    """How long (ms) a write may take."""
    ack_timeout_ms: Milliseconds = 1_000
    """How long (ms) POST /feedback?ack=stored waits for Redis, or X-Deadline-Ms if that is shorter."""
    close_timeout_ms: Pause = 2_000
    """How long (ms) writing the last events may take at shutdown; the rest goes to the spool."""
    spool: Path = Path("spool")
    """Folder for events that could not be written before shutdown; the next start writes them."""
    spool_max_bytes: Annotated[int, Field(ge=0, le=2**40)] = 2**26
    """Maximum bytes of all files in the spool; events that do not fit are dropped and counted. 0 keeps none."""
