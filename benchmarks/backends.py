"""What another backend costs: on the thread that ends a span, and on the queue's thread, where it is scrubbed.

usage: .venv/bin/python benchmarks/backends.py

Prints medians of several rounds in microseconds per span. Nothing is sent: the exporter only counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind

from otel_sentry import settings
from otel_sentry.backends import datadog
from otel_sentry.backends.outlet import Outlet
from otel_sentry.backends.spans import Copies, SpanOutlet

ROUNDS, SPANS = 9, 2_000
SQL = 'SELECT "post"."id", "post"."title" FROM "post" WHERE "post"."owner_id" = %s ORDER BY "post"."id" DESC LIMIT 21'
KINDS: dict[str, tuple[SpanKind, dict[str, Any], bool]] = {
    "SQL": (SpanKind.CLIENT, {
        "db.system.name": "postgresql", "db.namespace": "shop", "db.query.text": SQL, "server.address": "db.internal",
        "server.port": 5432, "user.id": "17", "business.operation": "post_creation",
    }, False),
    "Redis": (SpanKind.CLIENT, {
        "db.system.name": "redis", "db.query.text": "SET ? ? ? ?", "db.redis.args_length": 5, "server.address": "cache",
        "server.port": 6379, "network.transport": "tcp",
    }, False),
    "request": (SpanKind.SERVER, {
        "http.request.method": "POST", "url.scheme": "https", "url.path": "/posts/17/", "url.query": "page=2&token=x",
        "http.route": "posts/<int:pk>/", "server.address": "shop.example", "server.port": 443,
        "http.response.status_code": 200, "network.protocol.version": "1.1", "client.address": "192.0.2.7",
        "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126",
    }, False),
    "request with an exception": (SpanKind.SERVER, {"http.request.method": "POST", "url.path": "/posts/17/"}, True),
}  # fmt: skip


class Counting:
    """An exporter that takes all."""

    def export(self, batch: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def finished(kind: SpanKind, attributes: dict[str, Any], raises: bool) -> ReadableSpan:
    """A span as `on_end` gets it."""
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource({"service.name": "shop"}))
    span: Any = provider.get_tracer("bench").start_span("name", kind=kind, attributes=attributes)
    if raises:
        try:
            int("x")
        except ValueError as exc:
            span.record_exception(exc)
    span.end()
    return span._readable_span()  # type: ignore[no-any-return]


def median_us(call: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> float:
    """Of the rounds: microseconds of this thread's CPU per call (the machine may be busy)."""
    took = []
    for _ in range(ROUNDS):
        before()
        began = time.thread_time()
        for _ in range(SPANS):
            call()
        took.append((time.thread_time() - began) / SPANS * 1e6)
    return statistics.median(took)


def main() -> None:
    """Print the table."""
    loaded = settings.load({}, environment="production")
    plain, named = Copies(loaded), Copies(loaded, naming=datadog.names)
    print(f"{'span':28}{'on the caller, us':>18}{'scrubbed copy, us':>19}{'with Datadog names, us':>24}")
    for name, (kind, attributes, raises) in KINDS.items():
        span = finished(kind, attributes, raises)
        processor = SpanOutlet(Outlet("bench", "traces", Counting()), plain, 1.0)
        # The queue is emptied between the rounds, so that its thread does not run during one.
        processor.queue._batch = SPANS + 1
        here = median_us(lambda p=processor, s=span: p.on_end(s), processor.force_flush)  # type: ignore[misc]
        cells = (here, *(median_us(lambda c=c, s=span: c.of(s)) for c in (plain, named)))  # type: ignore[misc]
        print(f"{name:28}{cells[0]:18.2f}{cells[1]:19.1f}{cells[2]:24.1f}")


if __name__ == "__main__":
    main()
