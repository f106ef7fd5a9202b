"""The section `inference`: execution of models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.settings.group import Group


class InferenceSettings(Group):
    """Execution of models."""

    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` uses CUDA if it works, else the CPU; `cuda` refuses to start without CUDA."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads of one run; 0 measures each bundle: one, or more if its largest request is slow with one."""
    warm_up_rows: tuple[Annotated[int, Field(ge=1, le=4_096)], ...] = (1, 2, 8, 64)
    """Batch sizes to run before the service is ready."""
    state_cache_entries: Annotated[int, Field(ge=0, le=10_000_000)] = 20_000
    """Maximum number of cached user states; 0 turns the cache off."""
    state_cache_bytes: Annotated[int, Field(ge=0, le=2**40)] = 268_435_456
    """Maximum bytes of all cached user states."""
    drift: bool = True
    """Count the scores and inputs of each bundle by bucket, as metrics of drift."""
    popularity_fallback: bool = True
    """Answer in order of popularity if the engine fails or is too late; otherwise answer 503 or 504."""
