"""The section `limits`: limits on one request, and on concurrent requests."""

from __future__ import annotations

from contract.behaviours.grammar import MAX_FUTURE_MS
from service.settings.group import Count, Group, Milliseconds


class LimitsSettings(Group):
    """Limits on one request, and on concurrent requests."""

    max_body_bytes: Count = 1_048_576
    """Maximum bytes of a request body."""
    max_header_bytes: Count = 16_384
    """Maximum bytes of the request line and headers."""
    max_header_lines: Count = 64
    """Maximum number of header lines of a request."""
    max_url_bytes: Count = 4_096
    """Maximum bytes of a request target."""
    max_candidates: Count = 2_000
    """Maximum number of candidates in a ranking."""
    max_recent: Count = 500
    """Maximum number of behaviours in `recent` of a ranking."""
    max_batch_rankings: Count = 100
    """Maximum number of rankings in POST /rank/batch."""
    max_batch_candidates: Count = 20_000
    """Maximum number of candidates of all rankings in POST /rank/batch together."""
    max_batches: Count = 2
    """Maximum concurrent POST /rank/batch requests; above it requests get 429."""
    batch_deadline_ms: Milliseconds = 10_000
    """How long (ms) POST /rank/batch may take at most, and if the caller sends no X-Deadline-Ms."""
    max_behaviours: Count = 1_000
    """Maximum number of behaviours or feedback events in one request."""
    max_writes: Count = 32
    """Maximum concurrent POST /behaviours requests, and as many POST /feedback; above it requests get 429."""
    max_inflight: Count = 64
    """Maximum concurrent rankings; above it requests get 429. Fewer when one would take over 0.6 of its deadline."""
    deadline_ms: Milliseconds = 250
    """How long (ms) a ranking may take if the caller sends no X-Deadline-Ms."""
    max_deadline_ms: Milliseconds = 2_000
    """Maximum X-Deadline-Ms (ms); a larger value is lowered to it."""
    max_future_ms: Milliseconds = MAX_FUTURE_MS
    """POST /behaviours refuses a behaviour that is further (ms) ahead of the service's clock."""
