"""Transaction envelopes, checked by Sentry's own Relay library: whatever a segment holds, Sentry takes it."""

from __future__ import annotations

import json
import math
import re
import time
from collections import deque
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context

from otel_sentry import counters
from otel_sentry.sentry.envelope import dumps, plain
from otel_sentry.sentry.transaction import Common, Envelope, encode, encode_all
from otel_sentry.sentry.trim import choose, nearest
from otel_sentry.trace.segment import Remote, Segment
from otel_sentry.trace.tracestate import Decision
from tests.support.relay import assert_relay_ok

SQL = 'SELECT "post"."id" FROM "post" WHERE "post"."owner_id" = %s ORDER BY "post"."created" DESC'


class Recorder:
    """Real spans of the stock SDK, gathered into a segment."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def tracer(self, library: str = "") -> Any:
        """The tracer of one of contrib's instrumentations, or the application's own."""
        return self.provider.get_tracer(f"opentelemetry.instrumentation.{library}" if library else "shop", "1")

    def segment(self, root: Any = None, decision: Decision = Decision(True, 0.25, 0.1)) -> Segment:
        """All that has ended, under *root*."""
        finished = self._exporter.get_finished_spans()
        top = next((span for span in finished if root is not None and span.context == root.get_span_context()), None)
        context = (top or finished[0]).context
        segment = Segment(context.trace_id, context.span_id, None, decision)
        segment.root = top
        segment.spans = deque(span for span in finished if span is not top)
        segment.frozen_dsc = {"trace_id": format(context.trace_id, "032x"), "public_key": "key"}
        return segment


def request_segment(**attributes: Any) -> Segment:
    """A Django request with a query and a cache look-up below it."""
    recorder = Recorder()
    root = recorder.tracer("django").start_span(
        "GET posts/<int:pk>/",
        kind=SpanKind.SERVER,
        attributes={
            "http.request.method": "GET",
            "url.scheme": "http",
            "server.address": "shop.example:8000",
            "server.port": 8000,
            "url.path": "/posts/3/",
            "url.query": "q=1&token=hunter2",
            "client.address": "192.0.2.7",
            "http.route": "posts/<int:pk>/",
            "http.response.status_code": 200,
            "http.request.header.x_request_id": ("abc",),
            "http.request.header.authorization": ("Bearer hunter2",),
            "user.id": "42",
            **attributes,
        },
    )
    inside = set_span_in_context(root)
    recorder.tracer("psycopg").start_span(
        "SELECT",
        context=inside,
        kind=SpanKind.CLIENT,
        attributes={"db.system.name": "postgresql", "db.namespace": "shop", "db.query.text": SQL},
    ).end()
    recorder.tracer("redis").start_span(
        "GET",
        context=inside,
        kind=SpanKind.CLIENT,
        attributes={"db.system": "redis", "db.statement": "GET ?"},
    ).end()
    root.end()
    return recorder.segment(root)


def payload(envelope: Envelope | None) -> dict[str, Any]:
    """The transaction in an envelope whose framing and JSON are right."""
    assert envelope is not None
    header, item, rest = envelope.body.split(b"\n", 2)
    length = json.loads(item)["length"]
    assert json.loads(item)["type"] == "transaction"
    assert rest[length:] == b"\n"
    body = json.loads(rest[:length], parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert json.loads(header)["event_id"] == body["event_id"]
    return dict(body)


def accepted(segment: Segment, common: Common | None = None) -> dict[str, Any]:
    """The transaction of *segment*, which Relay takes without a remark."""
    body = payload(encode(segment, common or Common()))
    assert_relay_ok(body)
    return body


COMMON = Common(
    release="shop@1.2.3",
    environment="staging",
    server_name="web-1",
    dist="7",
    resource={"service.name": "shop", "host.cpus": 4},
)


def test_request_payload() -> None:
    """3.2: every field that the product reads is there, and Relay finds nothing."""
    segment = request_segment()
    body = accepted(segment, COMMON)
    trace = body["contexts"]["trace"]
    assert body["transaction"] == "GET /posts/<int:pk>/"
    assert body["transaction_info"] == {"source": "route"}
    assert (body["release"], body["environment"], body["server_name"], body["dist"]) == (
        "shop@1.2.3",
        "staging",
        "web-1",
        "7",
    )
    assert body["platform"] == "python"
    assert body["sdk"]["name"] == "sentry.python.otel_sentry"
    assert re.fullmatch("[0-9a-f]{32}", body["event_id"])
    assert (trace["op"], trace["status"], trace["origin"]) == ("http.server", "ok", "auto.http.otel.django")
    assert trace["trace_id"] == format(segment.trace_id, "032x")
    assert trace["parent_span_id"] is None
    assert trace["data"]["sentry.sample_rate"] == 0.25
    assert trace["data"]["otel.scope.name"] == "opentelemetry.instrumentation.django"
    assert body["contexts"]["response"] == {"status_code": 200}
    assert body["contexts"]["otel"] == {"resource": {"service.name": "shop", "host.cpus": 4}}
    query, cache = body["spans"]
    assert (query["op"], query["description"], query["origin"]) == ("db", SQL, "auto.db.otel.psycopg")
    assert query["data"]["db.system"] == "postgresql"
    assert query["parent_span_id"] == trace["span_id"]
    assert (cache["op"], cache["description"]) == ("db.redis", "GET ?")


def test_timestamps() -> None:
    """Epoch seconds with microseconds, those of the spans; an end before the start is clamped to it."""
    segment = request_segment()
    assert segment.root is not None
    body = accepted(segment)
    assert body["start_timestamp"] == pytest.approx(segment.root.start_time / 1e9, abs=1e-6)
    assert body["timestamp"] == pytest.approx(segment.root.end_time / 1e9, abs=1e-6)

    recorder = Recorder()
    now = time.time_ns()
    root = recorder.tracer().start_span("backwards", start_time=now)
    root.end(end_time=now - 10**9)
    body = accepted(recorder.segment(root))
    assert body["start_timestamp"] == body["timestamp"]


def test_envelope_header() -> None:
    """The header has id, time, SDK and sampling context, and no DSN; categories count the root as a span."""
    envelope = encode(request_segment(), COMMON)
    assert envelope is not None
    header = json.loads(envelope.body.split(b"\n", 1)[0])
    assert set(header) == {"event_id", "sent_at", "sdk", "trace"}
    assert header["trace"]["public_key"] == "key"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", header["sent_at"])
    assert envelope.categories == (("transaction", 1), ("span", 3))


def test_request_interface() -> None:
    """2.6: URL without query, query string and headers scrubbed, no address without PII."""
    body = accepted(request_segment())
    assert body["request"]["method"] == "GET"
    assert body["request"]["url"] == "http://shop.example:8000/posts/3/"
    assert body["request"]["query_string"].startswith("q=1&token=")
    assert body["request"]["headers"]["x-request-id"] == "abc"
    assert "env" not in body["request"]
    assert b"hunter2" not in json.dumps(body).encode()
    assert "192.0.2.7" not in json.dumps(body)


def test_pii() -> None:
    """With PII the address and the user's name and e-mail are sent; without it the id and the rest."""
    segment = request_segment()
    segment.user = {"id": "42", "email": "a@example.com", "username": "ann", "user_type": "admin"}
    body = accepted(segment)
    assert body["user"] == {"id": "42", "data": {"user_type": "admin"}}
    body = accepted(segment, Common(pii=True))
    assert body["user"] == {
        "id": "42",
        "email": "a@example.com",
        "username": "ann",
        "data": {"user_type": "admin"},
    }
    assert body["request"]["env"] == {"REMOTE_ADDR": "192.0.2.7"}


def test_user_from_attribute() -> None:
    """Where only the root's attribute names the user, that is the user."""
    assert accepted(request_segment())["user"] == {"id": "42"}


def test_tags() -> None:
    """2.6: the segment's tags and `sentry.tag.*`; one line each, never in place of an event's field."""
    segment = request_segment(**{"sentry.tag.plan": "pro", "sentry.tag.n": 3, "sentry.tag.release": "mine"})
    segment.tags = {"queue": "a\nb", "empty": "", "long": "x" * 500}
    tags = accepted(segment, COMMON)["tags"]
    assert tags["plan"] == "pro"
    assert tags["n"] == "3"
    assert tags["app.release"] == "mine"
    assert tags["queue"] == "a b"
    assert "empty" not in tags
    assert len(tags["long"]) == 200


def test_measurements() -> None:
    """2.6: span events with a measurement's unit and value; names and units in Relay's characters."""
    recorder = Recorder()
    root = recorder.tracer().start_span("work")
    root.add_event("render.time", {"sentry.measurement_unit": "millisecond", "sentry.measurement_value": 12.5})
    root.add_event("Odd Name", {"sentry.measurement_unit": "a very odd unit indeed", "sentry.measurement_value": 1})
    root.add_event("no measurement", {"x": 1})
    root.end()
    assert accepted(recorder.segment(root))["measurements"] == {
        "render.time": {"value": 12.5, "unit": "millisecond"},
        "odd_name": {"value": 1, "unit": "none"},
    }


def test_links() -> None:
    """2.6: links of the root and of spans keep ids, sampled flag and attributes, also beside much data."""
    recorder = Recorder()
    other = recorder.tracer().start_span("other trace").get_span_context()
    links = [Link(other, {"sentry.link.type": "previous_trace"})]
    root = recorder.tracer().start_span("root", links=links, attributes={f"key{i}": "x" * 400 for i in range(40)})
    recorder.tracer().start_span("child", context=set_span_in_context(root), links=links).end()
    root.end()
    body = accepted(recorder.segment(root))
    expected = [
        {
            "trace_id": format(other.trace_id, "032x"),
            "span_id": format(other.span_id, "016x"),
            "sampled": True,
            "attributes": {"sentry.link.type": "previous_trace"},
        }
    ]
    assert body["contexts"]["trace"]["links"] == expected
    assert body["spans"][0]["links"] == expected


def test_db_root_keeps_its_statement() -> None:
    """A root has no description: its statement stays in the data."""
    recorder = Recorder()
    attributes = {"db.system": "postgresql", "db.statement": f"{SQL} {'x' * 300}"}
    root = recorder.tracer("psycopg").start_span("SELECT", kind=SpanKind.CLIENT, attributes=attributes)
    root.end()
    body = accepted(recorder.segment(root))
    assert body["contexts"]["trace"]["data"]["db.query.text"].startswith(SQL)
    assert len(body["transaction"]) == 200


@pytest.mark.parametrize(
    ("remote", "sent"),
    [
        (None, True),
        (Remote(1, 2, None, {}, False), True),
        (Remote(1, 2, True, {}, True), False),
    ],
)
def test_sample_rate_only_where_applied(remote: Remote | None, sent: bool) -> None:
    """2.6: `sentry.sample_rate` stands where the rate was applied, not on inherited decisions."""
    segment = request_segment()
    segment.remote = remote
    data = accepted(segment)["contexts"]["trace"]["data"]
    assert ("sentry.sample_rate" in data) is sent


# What attributes can hold


def test_long_values_are_cut_after_scrubbing() -> None:
    """A secret across the cut is not saved by it: scrubbing sees the whole value."""
    seen = []

    def scrub(data: Any) -> dict[str, Any]:
        seen.append(len(data.get("long", "")))
        return dict(data)

    recorder = Recorder()
    root = recorder.tracer().start_span("root")
    recorder.tracer().start_span("c", context=set_span_in_context(root), attributes={"long": "x" * 20_000}).end()
    root.end()
    body = accepted(recorder.segment(root), Common(scrub=scrub))
    assert 20_000 in seen
    assert body["spans"][0]["data"]["long"] == "x" * 8191 + "…"


ODD: dict[str, Any] = {
    "bytes": b"\xff\x00abc",
    "nan": math.nan,
    "inf": -math.inf,
    "list with nan": [1.0, math.nan],
    "huge int": 10**5000,
    "big int": 2**64,
    "nested": {"a": {"b": [{"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}]}},
    "surrogate": "a\ud800b",
    "surrogate \udfff key": 1,
    "nul": "\x00\x1f\u2028",
    "int keys": {1: 2, (1, 2): 3},
    "set": {1},
    "object": object(),
    "long list": list(range(5000)),
    "tuple": ("a", None),
    "bool": True,
    "": "empty key",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values(name: str) -> None:
    """Whatever value an attribute holds, the JSON is valid and Relay takes it, on the root and below."""

    class Odd:
        """The SDK refuses some of these: a span that does not."""

        def __init__(self, span: ReadableSpan) -> None:
            self._span = span
            self.attributes = {**(span.attributes or {}), name: ODD[name]}

        def __getattr__(self, item: str) -> Any:
            return getattr(self._span, item)

    segment = request_segment()
    segment.root = Odd(segment.root)  # type: ignore[assignment,arg-type]
    segment.spans = deque(Odd(span) for span in segment.spans)  # type: ignore[misc]
    accepted(segment)
    accepted(segment, Common(scrub=dict))


def test_circular_value() -> None:
    """A structure that holds itself ends at the depth limit."""
    circle: dict[str, Any] = {}
    circle["self"] = circle
    json.loads(dumps(circle))
    json.loads(dumps({"data": plain(circle)}))


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.characters(categories=["Cs"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(max_size=30)
        | st.sampled_from(
            [
                "http.route",
                "url.path",
                "server.address",
                "http.response.status_code",
                "sentry.op",
                "sentry.name",
                "sentry.origin",
                "sentry.status",
                "user.id",
                "sentry.tag.x",
                "db.system",
                "db.query.text",
                "http.url",
                "net.peer.name",
                "celery.action",
                "cache.key",
                "url.full",
                "http.target",
                "rpc.grpc.status_code",
            ]
        ),
        JSON_LIKE,
        max_size=8,
    ),
    st.text(max_size=300),
    st.sampled_from(SpanKind),
)
def test_any_attributes(attributes: dict[str, Any], name: str, kind: SpanKind) -> None:
    """For any attributes and name: an envelope, valid JSON, and Relay takes it without a remark."""
    recorder = Recorder()
    root = recorder.tracer("django").start_span("root", kind=kind)
    recorder.tracer().start_span("child", context=set_span_in_context(root), kind=kind).end()
    root.end()
    segment = recorder.segment(root)
    for span in (segment.root, *segment.spans):
        assert span is not None
        span._attributes = attributes
        span._name = name
    accepted(segment)


# Limits and trees


def big_segment(count: int, text: int = 10) -> tuple[Segment, int]:
    """A root with *count* children in a chain of tens; every 100th failed."""
    recorder = Recorder()
    tracer = recorder.tracer()
    now = time.time_ns()
    root = tracer.start_span("root", start_time=now)
    parent = root
    failed = 0
    for index in range(count):
        span = tracer.start_span(
            f"span {index}",
            context=set_span_in_context(parent if index % 10 else root),
            start_time=now,
            attributes={"text": "x" * text},
        )
        if index % 100 == 7:
            span.set_status(Status(StatusCode.ERROR, "boom"))
            failed += 1
        parent = span
        span.end(end_time=now + index * 1000)
    root.end(end_time=now + count * 1000)
    return recorder.segment(root), failed


def assert_tree(body: dict[str, Any]) -> None:
    """Every span's parent is in the transaction."""
    ids = {span["span_id"] for span in body["spans"]} | {body["contexts"]["trace"]["span_id"]}
    assert {span["parent_span_id"] for span in body["spans"]} <= ids


def test_5000_spans() -> None:
    """4.2 rule 4: 1000 stay: all failed ones, then the longest; the tree holds, and the rest is counted."""
    segment, failed = big_segment(5000)
    envelope = encode(segment, Common())
    body = payload(envelope)
    assert_relay_ok(body)
    assert envelope is not None
    assert len(body["spans"]) == 1000
    assert sum(span["status"] != "ok" for span in body["spans"]) == failed
    slowest = {f"span {index}" for index in range(5000 - (1000 - failed), 5000)}
    assert slowest <= {span["description"] for span in body["spans"]}
    assert_tree(body)
    assert body["contexts"]["trace"]["data"]["sentry.dropped_span_count"] == 4000
    assert counters.snapshot() == {("buffer_overflow", "span"): 4000}
    assert envelope.categories == (("transaction", 1), ("span", 1001))


def test_byte_limit() -> None:
    """7: Sentry refuses a transaction past 1 MiB whole, so bytes count as well as spans."""
    segment, failed = big_segment(900, text=3000)
    envelope = encode(segment, Common())
    body = payload(envelope)
    assert envelope is not None
    assert len(envelope.body) < 901_000
    left = len(body["spans"])
    assert 200 < left < 400
    assert sum(span["status"] != "ok" for span in body["spans"]) == failed
    assert_tree(body)
    assert body["contexts"]["trace"]["data"]["sentry.dropped_span_count"] == 900 - left
    assert counters.snapshot() == {("buffer_overflow", "span"): 900 - left}
    assert_relay_ok(body)


def test_huge_root() -> None:
    """A root that alone is too large is cut itself, and its spans still go."""
    recorder = Recorder()
    root = recorder.tracer().start_span("root", attributes={f"k{i}": ["x" * 8000] * 20 for i in range(20)})
    recorder.tracer().start_span("child", context=set_span_in_context(root)).end()
    root.end()
    envelope = encode(recorder.segment(root), Common(max_bytes=100_000))
    assert envelope is not None
    assert len(envelope.body) < 102_000
    assert len(payload(envelope)["spans"]) == 1


def test_children_of_an_unfinished_span() -> None:
    """4: a span whose parent never ended hangs on the root instead of nowhere."""
    recorder = Recorder()
    root = recorder.tracer().start_span("root")
    middle = recorder.tracer().start_span("never ends", context=set_span_in_context(root))
    recorder.tracer().start_span("leaf", context=set_span_in_context(middle)).end()
    root.end()
    body = accepted(recorder.segment(root))
    assert [span["description"] for span in body["spans"]] == ["leaf"]
    assert_tree(body)


def test_nearest_ends_in_a_circle() -> None:
    """Parents that lead to each other end at the root; a long chain is walked once."""
    assert nearest(1, {9}, {1: 2, 2: 1}, 9) == 9
    chain = {index: index - 1 for index in range(1, 100_000)}
    started = time.perf_counter()
    assert {nearest(index, {0}, chain, 0) for index in range(1, 100_000)} == {0}
    assert time.perf_counter() - started < 5


def test_choose_keeps_order() -> None:
    """What is chosen stays in the order in which it ended."""
    segment, _ = big_segment(50)
    names = [span.name for span in choose(segment.spans, 20)]
    assert names == sorted(names, key=lambda name: int(name.split()[1]))


# Late spans


def test_late_span() -> None:
    """4.2 rule 3: a span that ended after its root was sent is a transaction of its own, its parent kept."""
    recorder = Recorder()
    root = recorder.tracer().start_span("root")
    late = recorder.tracer().start_span("late", context=set_span_in_context(root))
    late.end()
    segment = recorder.segment(late)
    segment.late_of = root.get_span_context().span_id
    body = accepted(segment)
    trace = body["contexts"]["trace"]
    assert body["transaction"] == "late"
    assert trace["parent_span_id"] == format(root.get_span_context().span_id, "016x")
    assert trace["data"]["sentry.parent_span_already_sent"] is True


def test_orphans_become_one_envelope_each() -> None:
    """4.2 rule 3: late spans of a segment without root go one by one, each with its descendants."""
    recorder = Recorder()
    tracer = recorder.tracer()
    root = tracer.start_span("root")
    for name in ("a", "b"):
        top = tracer.start_span(name, context=set_span_in_context(root))
        inner = tracer.start_span(f"{name}1", context=set_span_in_context(top))
        tracer.start_span(f"{name}2", context=set_span_in_context(inner)).end()
        inner.end()
        top.end()
    segment = recorder.segment()
    segment.late_of = segment.span_id
    bodies = [payload(envelope) for envelope in encode_all(segment, Common())]
    assert {body["transaction"]: {span["description"] for span in body["spans"]} for body in bodies} == {
        "a": {"a1", "a2"},
        "b": {"b1", "b2"},
    }
    for body in bodies:
        assert_relay_ok(body)
        assert body["contexts"]["trace"]["data"]["sentry.parent_span_already_sent"] is True


def test_no_root() -> None:
    """A segment without root makes no envelope by itself, and says what that cost."""
    recorder = Recorder()
    recorder.tracer().start_span("x").end()
    segment = recorder.segment()
    assert encode(segment, Common()) is None
    assert counters.snapshot() == {("buffer_overflow", "span"): 1}


# Hooks


def test_before_send_transaction() -> None:
    """The user's hook sees and changes the event; spans that it removes are counted."""

    def hook(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        event["tags"] = {"hooked": "yes"}
        event["extra"] = {"nan": math.nan, "object": object()}
        event["spans"] = event["spans"][:1]
        return event

    envelope = encode(request_segment(), Common(before_send_transaction=hook))
    body = payload(envelope)
    assert_relay_ok(body)
    assert body["tags"] == {"hooked": "yes"}
    assert envelope is not None
    assert envelope.categories == (("transaction", 1), ("span", 2))
    assert counters.snapshot() == {("before_send", "span"): 1}


def test_before_send_transaction_drops() -> None:
    """None from the hook: no envelope, counted as before_send."""
    assert encode(request_segment(), Common(before_send_transaction=lambda event, hint: None)) is None
    assert counters.snapshot() == {("before_send", "transaction"): 1, ("before_send", "span"): 3}


@pytest.mark.allow_swallowed
def test_before_send_transaction_raises() -> None:
    """Decision 8: a hook that raises loses the item, for it is often the scrubber."""

    def hook(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("hook")

    assert encode(request_segment(), Common(before_send_transaction=hook)) is None
    assert counters.snapshot() == {("callback_error", "transaction"): 1, ("callback_error", "span"): 3}


def test_apply_scope() -> None:
    """Scope data is added before the user's hook; None from it is an event processor's drop."""

    def apply_scope(segment: Segment, event: dict[str, Any]) -> dict[str, Any]:
        return {**event, "extra": {"order": segment.trace_id % 7}}

    seen = []
    common = Common(apply_scope=apply_scope, before_send_transaction=lambda event, hint: seen.append(event) or event)
    body = accepted(request_segment(), common)
    assert body["extra"] == seen[0]["extra"]
    counters.reset()
    assert encode(request_segment(), Common(apply_scope=lambda segment, event: None)) is None
    assert counters.snapshot() == {("event_processor", "transaction"): 1, ("event_processor", "span"): 3}
