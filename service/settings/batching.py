"""The section `batching`: sizes of batches and queues."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.settings.group import Count, Group


class BatchingSettings(Group):
    """Sizes of batches and queues."""

    max_queue: Count = 256
    """Maximum number of requests that wait for a bundle; above it requests get 429."""
    max_rows: Annotated[int, Field(ge=1, le=4_096)] = 64
    """Maximum number of requests in one batch."""
    max_batch_candidates: Count = 20_000
    """Maximum number of candidates in one batch."""
    max_store_users: Annotated[int, Field(ge=1, le=4_096)] = 128
    """Maximum number of users in one read."""
    store_reads: Annotated[int, Field(ge=1, le=64)] = 4
    """Maximum number of concurrent reads."""
