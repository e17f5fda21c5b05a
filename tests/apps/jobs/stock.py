"""The same application, on a stock TracerProvider that writes finished spans to the file in STOCK_SPANS."""

from __future__ import annotations

import json
import os
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_sentry import errors
from otel_sentry_celery import CeleryInstrumentor


def write(kind: str, **fields: Any) -> None:
    with open(os.environ["STOCK_SPANS"], "a") as file:
        file.write(json.dumps({"kind": kind, **fields}, default=str) + "\n")


class FileExporter(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        for span in spans:
            self.write(span)
        return SpanExportResult.SUCCESS

    def write(self, span: ReadableSpan) -> None:
        write(
            "span", name=span.name, span_kind=span.kind.name, status=span.status.status_code.name,
            attributes=dict(span.attributes or {}),
            span_id=span.context.span_id, trace_id=span.context.trace_id,
            parent=span.parent.span_id if span.parent else None,
            ms=(span.end_time - span.start_time) / 1e6,
        )  # fmt: skip


def capture(exc: BaseException, mechanism: str, handled: bool = False, **fields: Any) -> None:
    """In place of the seam to sentry_sdk: which exception, and which span was current."""
    exc.__dict__.setdefault("__otel_sentry_test__", "mark")
    span_id = trace.get_current_span().get_span_context().span_id
    write("error", type=type(exc).__name__, mechanism=mechanism, text=str(exc), span_id=span_id, **fields)


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
trace.set_tracer_provider(provider)
errors.capture_unhandled = capture
CeleryInstrumentor().instrument()

from jobs import app  # noqa: E402

__all__ = ["app", "trace"]
