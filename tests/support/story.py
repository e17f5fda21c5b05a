"""Real spans of a small shop, as segments: a request, the task that it causes, what fails and what comes late."""

from __future__ import annotations

import copy
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer, TraceState, set_span_in_context

from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.segment import Segment, table

REDIS: dict[str, Any] = {"db.system": "redis", "db.statement": "GET ?", "net.peer.name": "cache", "net.peer.port": 6379}
SQL = 'SELECT "post"."id" FROM "post" WHERE "post"."owner_id" = %s'


class Kept(Sampler):
    """Keeps all, as our sampler says it in the tracestate."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        result = ALWAYS_ON.should_sample(*args, **kwargs)
        return SamplingResult(
            Decision.RECORD_AND_SAMPLE, result.attributes, TraceState([("sentry", "s:1;r:0.5;x:0.25")])
        )

    def get_description(self) -> str:
        return "kept"


class Shop:
    """A provider with our pipeline; *segments* are those that it would have sent, each with its spans."""

    def __init__(self) -> None:
        table.clear()
        self.segments: list[Segment] = []
        self._items: list[Any] = []
        pipeline = SpanPipeline(sender=lambda: self, encode=self._encode)  # type: ignore[arg-type, return-value]
        self.provider = TracerProvider(sampler=Kept(), shutdown_on_exit=False)
        self.provider.add_span_processor(pipeline)

    def put(self, item: Any, urgent: bool = False) -> bool:
        self._items.append(item)
        return True

    def send(self) -> None:
        """Encode what has ended."""
        items, self._items = self._items, []
        for item in items:
            item.encode()

    def _encode(self, segment: Segment) -> None:
        self.segments.append(copy.copy(segment))

    def tracer(self, library: str = "") -> Tracer:
        """The tracer of one of contrib's instrumentations, or the application's own."""
        return self.provider.get_tracer(f"opentelemetry.instrumentation.{library}" if library else "shop", "1")


def shop_story() -> list[Segment]:
    """The segments of: a request with a query, caches, a call, a publish and a failure; its task; one late span."""
    shop = Shop()
    root = shop.tracer("django").start_span(
        "POST posts/<int:pk>/",
        kind=SpanKind.SERVER,
        attributes={
            "http.request.method": "POST",
            "url.scheme": "http",
            "server.address": "shop.example",
            "server.port": 8000,
            "url.path": "/posts/3/",
            "url.query": "q=1&token=hunter2",
            "client.address": "192.0.2.7",
            "http.route": "posts/<int:pk>/",
            "http.response.status_code": 500,
            "http.request.header.x_request_id": ("abc",),
            "http.request.header.authorization": ("Bearer hunter2",),
            "user.id": "42",
            "shop.flags": ("a", "b"),
            "sentry.tag.plan": "pro",
        },
    )
    inside = set_span_in_context(root)
    client: dict[str, Any] = {"context": inside, "kind": SpanKind.CLIENT}
    database = {"db.system.name": "postgresql", "db.namespace": "shop", "db.query.text": SQL, "server.address": "db"}
    query = shop.tracer("psycopg").start_span("SELECT", attributes=database, **client)
    query.set_status(Status(StatusCode.ERROR, "UndefinedTable: relation"))
    query.end()
    shop.tracer("redis").start_span("GET", attributes=REDIS, **client).end()
    cached: dict[str, Any] = {
        "cache.key": ("post:3",),
        "cache.hit": True,
        "cache.item_size": 512,
        "db.operation.name": "GET",
    }
    shop.tracer().start_span("cache", attributes=cached, context=inside).end()
    call: dict[str, Any] = {
        "http.request.method": "GET",
        "url.full": "https://pay.example/charges/77?token=hunter2",
        "server.address": "pay.example",
        "http.response.status_code": 404,
    }
    shop.tracer("httpx").start_span("GET", attributes=call, **client).end()
    publish = shop.tracer("celery").start_span(
        "apply_async/shop.render",
        context=inside,
        kind=SpanKind.PRODUCER,
        attributes={"celery.action": "apply_async", "celery.task_name": "shop.render",
                    "messaging.destination": "images", "messaging.message.id": "m-1"},
    )  # fmt: skip
    publish.end()
    with shop.tracer().start_as_current_span("render preview", context=inside) as middle:
        middle.set_attribute("shop.ratio", 0.5)
        shop.tracer().start_span("resize", links=[Link(publish.get_span_context(), {"why": "retry"})]).end()
    late = shop.tracer().start_span("send mail", context=inside)
    root.set_status(Status(StatusCode.ERROR, "ValueError: no stock"))
    root.end()
    shop.send()
    late.end()
    task = shop.tracer("celery").start_span(
        "run/shop.render",
        kind=SpanKind.CONSUMER,
        links=[Link(publish.get_span_context())],
        attributes={"celery.action": "run", "celery.task_name": "shop.render", "messaging.destination": "images",
                    "messaging.message.id": "m-1", "celery.retries": 1, "messaging.message.receive.latency": 12.6},
    )  # fmt: skip
    task.end()
    unrouted: dict[str, Any] = {
        "http.request.method": "GET",
        "url.path": "/no/such/page",
        "http.response.status_code": 404,
    }
    shop.tracer("django").start_span("GET", kind=SpanKind.SERVER, attributes=unrouted).end()
    shop.send()
    return shop.segments


def wide_segment(count: int, *, text: str = "") -> Segment:
    """A root with *count* children, each the child of the one before it in every tenth; every hundredth failed."""
    shop = Shop()
    root = shop.tracer().start_span("import", attributes={"sentry.op": "function"})
    above, open_spans = root, []
    for number in range(count):
        attributes: dict[str, Any] = {"number": number, **({"text": text} if text else {})}
        span = shop.tracer().start_span(f"row {number}", context=set_span_in_context(above), attributes=attributes)
        if number % 100 == 0:
            span.set_status(Status(StatusCode.ERROR, "bad row"))
        open_spans.append(span)
        above = span if number % 10 else root
    for span in reversed(open_spans):
        span.end()
    root.end()
    shop.send()
    (segment,) = shop.segments
    return segment
