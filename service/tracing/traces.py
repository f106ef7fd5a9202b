"""The traces of one process: which requests, and where their spans are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Final

from service.tracing.ended import Ended
from service.tracing.sampling import Sampler, Trace

_CLOSE_SECONDS: Final = 2.0  # for the last spans


class Traces:
    """See the module; nothing of OpenTelemetry is imported here (service/tracing/exporting.py).

    Args:
        sampler: chooses requests.
        ended: makes the spans of an answered request.
        shutdown: sends the last spans; blocks.
    """

    def __init__(self, sampler: Sampler, ended: Callable[[Trace, Ended], None], shutdown: Callable[[], None]) -> None:
        self.begin, self.ended = sampler.choose, ended
        self._shutdown = shutdown

    async def close(self) -> None:
        """Send the last spans, for two seconds at most; what a collector takes longer for is lost."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._shutdown()
            with suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon_threadsafe(sent.set)

        Thread(target=send, daemon=True).start()  # which the end of the process does not wait for
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await sent.wait()
