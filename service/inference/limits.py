"""How bundles are loaded and run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.inference.engine import ProviderChoice
from service.settings.root import Settings

_LEAST_RUN_SECONDS: Final = 2.0  # a batch is never ended before: the first runs on a GPU take long


@dataclass(frozen=True, slots=True)
class DeploymentLimits:
    """How bundles are loaded and run: what the settings say, in seconds. It has no defaults of its own."""

    max_bundle_bytes: int
    map_tables: bool
    provider: ProviderChoice
    threads: int
    max_queue: int
    max_rows: int
    max_batch_candidates: int
    warm_up_rows: tuple[int, ...]
    max_candidates: int  # of a request; a bundle that was made for fewer is refused
    deadline_seconds: float  # a batch that takes longer is slow
    run_seconds: float  # no request waits longer, so a batch that does is ended
    budget_seconds: float  # that the largest request may take when the bundle is loaded
    load_seconds: float  # that loading may take
    memory_bytes: int  # that the process that tries a bundle may have

    @classmethod
    def of(cls, settings: Settings) -> DeploymentLimits:
        """Return the limits that the settings set."""
        bundles, inference, batching, limits = settings.bundles, settings.inference, settings.batching, settings.limits
        return cls(
            max_bundle_bytes=bundles.max_bytes,
            map_tables=bundles.map_tables,
            provider=inference.provider,
            threads=inference.threads,
            max_queue=batching.max_queue,
            max_rows=batching.max_rows,
            max_batch_candidates=batching.max_batch_candidates,
            warm_up_rows=inference.warm_up_rows,
            max_candidates=limits.max_candidates,
            deadline_seconds=limits.deadline_ms / 1000,
            run_seconds=max(_LEAST_RUN_SECONDS, limits.max_deadline_ms / 1000),
            budget_seconds=bundles.deadline_share * limits.deadline_ms / 1000,
            load_seconds=bundles.load_timeout_ms / 1000,
            memory_bytes=bundles.max_memory_bytes,
        )
