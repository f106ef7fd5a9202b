"""The spans of a request and of the batches that it joined."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, cast

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from service.tracing.ended import Ended
from service.tracing.run import ModelRun
from service.tracing.sampling import Trace

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SERVER_ERROR: Final = 500


class GivenIds(RandomIdGenerator):
    """Random ids, except that the next trace can be given its own."""

    def __init__(self) -> None:
        self.next_trace_id: int | None = None

    def generate_trace_id(self) -> int:
        """Return the given id once, and else a random one."""
        given, self.next_trace_id = self.next_trace_id, None
        return given if given is not None else super().generate_trace_id()


class Spans:
    """Makes spans; all methods are called from the event loop's thread.

    Args:
        provider: with `ids` as its id generator.
        ids: gives a trace that begins here the id that the log shows.
        version: of this service.
    """

    def __init__(self, provider: TracerProvider, ids: GivenIds, version: str) -> None:
        self._tracer, self._ids = provider.get_tracer("ranker", version), ids

    def request(self, trace: Trace, ended: Ended) -> None:
        """Make the span of a request, its stages below it, and the spans of the runs that it joined."""
        clock = time.time_ns() - round(time.perf_counter() * 1e9)  # from perf_counter to the epoch
        root = self._root(trace, ended, clock)
        for name, began, seconds in _stages(ended):
            self._below(root, name, clock + round(began * 1e9), seconds)
        for run in ended.runs:
            links = [Link(cast(SpanContext, run.span or self._run(run, clock)))]
            self._below(root, "inference", clock + round(run.began * 1e9), _seconds(run), links)
        root.end(clock + round((ended.began + ended.seconds) * 1e9))

    def _root(self, trace: Trace, ended: Ended, clock: int) -> Span:
        parent = None
        if trace.parent_id is None:
            self._ids.next_trace_id = int(trace.trace_id, 16)
        else:
            above = SpanContext(int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=_SAMPLED)
            parent = set_span_in_context(NonRecordingSpan(above))
        attributes: dict[str, AttributeValue] = {
            "http.request.method": ended.method, "http.route": ended.route,
            "http.response.status_code": ended.status, "ranker.request_id": ended.request_id, **ended.facts,
        }  # fmt: skip
        span = self._tracer.start_span(
            f"{ended.method} {ended.route}", parent, SpanKind.SERVER, attributes,
            start_time=clock + round(ended.began * 1e9),
        )  # fmt: skip
        if ended.status >= _SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        return span

    def _run(self, run: ModelRun, clock: int) -> SpanContext:
        """Make the span of a run, once: a trace of its own, to which every traced request of the batch has a link."""
        start = clock + round(run.began * 1e9)
        span = self._tracer.start_span(
            "batch", attributes={"ranker.bundle": run.bundle, "ranker.batch.rows": run.rows}, start_time=start
        )
        self._below(span, "encode", start, run.encode_seconds)
        self._below(span, "score", start + round(run.encode_seconds * 1e9), run.score_seconds)
        span.end(start + round(_seconds(run) * 1e9))
        run.span = span.get_span_context()
        return span.get_span_context()

    def _below(self, above: Span, name: str, start_ns: int, seconds: float, links: Sequence[Link] = ()) -> None:
        span = self._tracer.start_span(name, set_span_in_context(above), links=links, start_time=start_ns)
        span.end(start_ns + round(seconds * 1e9))


def _seconds(run: ModelRun) -> float:
    return run.encode_seconds + run.score_seconds


def _stages(ended: Ended) -> list[tuple[str, float, float]]:
    """Return name, begin and seconds of the stages; store and queue end where the next one begins."""
    stages, found = ended.stages, list[tuple[str, float, float]]()
    if "order" in stages:
        found.append(("order", ended.began + stages.get("total", ended.seconds) - stages["order"], stages["order"]))
    next_at = min((run.began for run in ended.runs), default=ended.began + ended.seconds)
    for name in ("queue", "store"):
        if name in stages:
            next_at -= stages[name]
            found.append((name, next_at, stages[name]))
    return found
