"""A loopback receiver of OTLP/HTTP traces, logs and metrics: all as plain dictionaries."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class OtlpReceiver:
    """Keeps what is posted to ``/v1/traces``, ``/v1/logs`` and ``/v1/metrics``; use as a context manager."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.resources: list[dict[str, Any]] = []
        #: Each request: its path and its headers, with lower-case names.
        self.requests: list[tuple[str, dict[str, str]]] = []
        takers: dict[str, tuple[Any, Callable[[Any], None]]] = {
            "/v1/traces": (ExportTraceServiceRequest, self._take),
            "/v1/logs": (ExportLogsServiceRequest, self._take_logs),
            "/v1/metrics": (ExportMetricsServiceRequest, self._take_metrics),
        }
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                owner.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                kind, take = takers.get(self.path, (None, None))
                if kind is not None and take is not None:
                    take(kind.FromString(body))
                self.send_response(200 if kind is not None else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.resources.append(_attributes(resource.resource.attributes))
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        {"name": span.name, "trace_id": span.trace_id.hex(), "span_id": span.span_id.hex(),
                         "parent": span.parent_span_id.hex(), "attributes": _attributes(span.attributes)}
                    )  # fmt: skip

    def _take_logs(self, request: ExportLogsServiceRequest) -> None:
        for resource in request.resource_logs:
            self.resources.append(_attributes(resource.resource.attributes))
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    self.logs.append(
                        {"logger": scope.scope.name, "body": record.body.string_value, "level": record.severity_text,
                         "severity_number": record.severity_number, "trace_id": record.trace_id.hex(),
                         "span_id": record.span_id.hex(), "attributes": _attributes(record.attributes)}
                    )  # fmt: skip

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            self.resources.append(_attributes(resource.resource.attributes))
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data") or "sum")
                    self.metrics.append(
                        {"scope": scope.scope.name, "name": metric.name, "unit": metric.unit,
                         "kind": metric.WhichOneof("data"), "points": list(data.data_points)}
                    )  # fmt: skip

    def __enter__(self) -> OtlpReceiver:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}
