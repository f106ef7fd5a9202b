"""A collector of OpenTelemetry traces: the real protocol, OTLP over HTTP."""

from __future__ import annotations

import gzip
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Received(NamedTuple):
    """One span, ids in hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: list[str]  # trace ids
    attributes: dict[str, Any]
    seconds: float


class TraceCollector:
    """Takes spans until it is closed."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        taken = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                taken.extend(_spans(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()


def _spans(request: ExportTraceServiceRequest) -> list[Received]:
    return [
        Received(
            span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
            [link.trace_id.hex() for link in span.links],
            {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes},
            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        )
        for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
    ]  # fmt: skip
