"""A minimal OTLP receiver: HTTP with protobuf, on loopback, in a thread."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Receiver:
    """What came, by path; `status` is what is answered."""

    url: str = ""
    status: int = 200
    bodies: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def paths(self) -> set[str]:
        """The paths that were posted to."""
        return {path for path, _ in self.bodies}

    def metrics(self) -> dict[str, list[Metric]]:
        """All metrics that came, by name."""
        found: dict[str, list[Metric]] = {}
        for request in self._metric_requests():
            for metric in (
                m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics
            ):
                found.setdefault(metric.name, []).append(metric)
        return found

    def resources(self) -> list[dict[str, object]]:
        """The attributes of the processes that sent metrics."""
        requests = self._metric_requests()
        return [_attributes(r.resource) for each in requests for r in each.resource_metrics]

    def spans(self) -> list[Span]:
        """All spans that came."""
        requests = [
            ExportTraceServiceRequest.FromString(body)
            for path, body in self.bodies
            if path == "/v1/traces"
        ]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def _metric_requests(self) -> list[ExportMetricsServiceRequest]:
        return [
            ExportMetricsServiceRequest.FromString(body)
            for path, body in self.bodies
            if path == "/v1/metrics"
        ]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.bodies.append((self.path, body))
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def attributes_of(holder: Span | Resource) -> dict[str, object]:
    """Attributes by name."""
    return _attributes(holder)


def _attributes(holder: Span | Resource) -> dict[str, object]:
    pairs: list[KeyValue] = list(holder.attributes)
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
