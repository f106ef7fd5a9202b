"""The access file: in force before anything is served, and watched."""

from __future__ import annotations

from contextlib import AsyncExitStack

from service.access.live import AccessSource
from service.flow.supervision import supervise
from service.runtime import Runtime


async def access_source(runtime: Runtime, stack: AsyncExitStack) -> AccessSource | None:
    """Put the access file in force, and watch it; None without one.

    Raises:
        StartError: the file cannot be used.
    """
    chosen = runtime.settings.access
    if chosen.file is None or runtime.keys is None:
        return None
    source = AccessSource(chosen.file, runtime.keys, runtime.metrics)
    await source.start()
    seconds = chosen.reload_ms / 1000
    watch = supervise("access", lambda: source.watch(seconds), runtime.metrics)
    stack.push_async_callback(watch.cancel)
    return source
