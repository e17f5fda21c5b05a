"""A Sentry on loopback with both of its intakes: envelopes, and OTLP below the project."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_sentry.cli.envelope import Item, parse_envelope

KEY = "e" * 32


class SentryWithOtlp:
    """Keeps envelope items and OTLP requests with their headers; *status* is the answer to OTLP."""

    def __init__(self, status: int = 200) -> None:
        self.items: list[Item] = []
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.statuses = [status]
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                status = owner._take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.dsn = f"http://{KEY}@127.0.0.1:{self._server.server_address[1]}/7"

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        if path == "/api/7/envelope/":
            self.items += parse_envelope(body)[1]
            return 200
        if path != "/api/7/integration/otlp/v1/traces/":
            return 404
        self.headers.append(headers)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 200:
            self.requests.append(ExportTraceServiceRequest.FromString(body))
        return status

    @property
    def spans(self) -> list[Any]:
        """All protobuf spans that were taken."""
        return [span for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for span in ss.spans]

    def payloads(self, kind: str) -> list[Any]:
        """The payloads of all items of *kind*."""
        return [item.json for item in self.items if item.type == kind]

    def __enter__(self) -> SentryWithOtlp:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
