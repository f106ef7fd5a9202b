"""The section `traces`: requests as OpenTelemetry traces."""

from __future__ import annotations

from pydantic import Field

from service.settings.group import Group


class TracesSettings(Group):
    """Requests as OpenTelemetry traces; off without an endpoint."""

    endpoint: str | None = Field(None, pattern=r"^https?://[^\s@]+$")
    """URL of an OTLP/HTTP collector, such as `http://collector:4318/v1/traces`; without it nothing is traced."""
    share: float = Field(0.01, ge=0, le=1)
    """Share of the requests without a `traceparent` that are traced; the others follow their sampled flag."""
    max_per_second: int = Field(100, ge=1, le=10_000)
    """Maximum traced requests per second of one process, also of those that callers sample."""
    service_name: str = Field("ranker", min_length=1, max_length=128)
    """`service.name` of the traces."""
