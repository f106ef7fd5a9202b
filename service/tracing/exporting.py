"""Spans on their way to a collector, in a thread of their own: a collector that is away costs only spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from service.settings.traces import TracesSettings
from service.tracing.sampling import Sampler
from service.tracing.spans import GivenIds, Spans
from service.tracing.traces import Traces

_EXPORT_SECONDS: Final = 5.0  # for one request to the collector, its retries included
_QUEUE_SPANS: Final = 8_192

OnSpans = Callable[[str, int], None]  # result, count; from any thread


def exported_traces(
    settings: TracesSettings, version: str, on_spans: OnSpans, on_over_limit: Callable[[], None]
) -> Traces:
    """Return traces that go to the endpoint of the settings.

    Args:
        settings: with an endpoint.
        version: of this service.
        on_spans: counts spans: `exported`, or `failed` where the collector did not take them.
        on_over_limit: called for each request that is not traced because others of the same second were.
    """
    ids = GivenIds()
    resource = Resource.create({"service.name": settings.service_name, "service.version": version})
    provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
    exporter = _Counted(OTLPSpanExporter(endpoint=settings.endpoint, timeout=_EXPORT_SECONDS), on_spans)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_QUEUE_SPANS))
    sampler = Sampler(settings.share, settings.max_per_second, on_over_limit)
    return Traces(sampler, Spans(provider, ids, version).request, provider.shutdown)


class _Counted(SpanExporter):
    def __init__(self, exporter: SpanExporter, on_spans: OnSpans) -> None:
        self._exporter, self._on_spans = exporter, on_spans

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._on_spans("exported" if result is SpanExportResult.SUCCESS else "failed", len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
