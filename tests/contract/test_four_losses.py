"""The four losses of sentry-sdk's own OpenTelemetry processor (sentry-sdk.md 1.2: S6, S11), arriving at a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, set_span_in_context

from otel_sentry import capture_custom_exception, counters
from otel_sentry.cli.receiver import Receiver
from tests.support.relay import assert_relay_ok
from tests.support.wire import Wire, children, trace, wired


@pytest.fixture
def wire(receiver: Receiver) -> Iterator[Wire]:
    with wired(receiver, late_grace=0.0) as one:
        yield one


def test_late_children_arrive(wire: Wire) -> None:
    """Lost there as "unfinished"; here a transaction of the same trace, below the same parent."""
    root = wire.tracer.start_span("root")
    late = wire.tracer.start_span("late", context=set_span_in_context(root))
    root.end()
    wire.flush()
    late.end()
    found = wire.by_name()
    assert trace(found["late"])["parent_span_id"] == trace(found["root"])["span_id"]
    assert counters.snapshot() == {}


def test_span_events_arrive_as_data(wire: Wire) -> None:
    """Name, time after the span's start, attributes, scrubbed; on the root and on spans below it."""
    with wire.tracer.start_as_current_span("root") as root:
        root.add_event("cache warmed", {"keys": 3, "note": "password=hunter2"})
        with wire.tracer.start_as_current_span("child") as child:
            child.add_event("retry", {"attempt": 2})
    (event,) = wire.sent()
    (warmed,) = [json.loads(text) for text in trace(event)["data"]["otel.events"]]
    assert (warmed["name"], warmed["keys"]) == ("cache warmed", 3) and warmed["after_ms"] >= 0
    assert "hunter2" not in json.dumps(event)
    (retry,) = [json.loads(text) for text in children(event)["child"]["data"]["otel.events"]]
    assert (retry["name"], retry["attempt"]) == ("retry", 2)


def test_span_events_are_bounded(wire: Wire) -> None:
    """Ten of them, texts cut, and how many more there were: they share the room of the span's attributes."""
    with wire.tracer.start_as_current_span("root", attributes={"mine": 1}) as root:
        for number in range(50):
            root.add_event(f"event {number}", {"text": "x" * 10_000})
    (event,) = wire.sent()
    found = trace(event)["data"]["otel.events"]
    assert len(json.dumps(found)) < 8192 and trace(event)["data"]["mine"] == 1
    assert "and 40 more" in json.dumps(found)


def test_span_events_arrive_as_breadcrumbs(wire: Wire) -> None:
    """An error carries the events of its segment's spans, finished or not, in the order of time."""
    with wire.tracer.start_as_current_span("root") as root:
        root.add_event("order accepted", {"order": 7, "token": "hunter2"})
        with wire.tracer.start_as_current_span("child") as child:
            child.add_event("retry")
        capture_custom_exception(ValueError("boom"))
    wire.flush()
    (event,) = wire.receiver.events
    crumbs = event["breadcrumbs"]["values"]
    assert [crumb["message"] for crumb in crumbs] == ["order accepted", "retry", "child", "Error occurred: ValueError"]
    assert (crumbs[0]["category"], crumbs[0]["data"]["order"]) == ("event", 7)
    assert "hunter2" not in json.dumps(event)


def test_recorded_exceptions_arrive(wire: Wire) -> None:
    """`span.record_exception` of the user's own code is an issue, with a stack trace and the span's ids; on the span
    its type and message are data. (sentry-sdk drops both.)"""

    def fail() -> None:
        raise ValueError("no stock for order 7")

    with wire.tracer.start_as_current_span("root") as root:
        try:
            fail()
        except ValueError as exc:
            root.record_exception(exc)
    (transaction,) = wire.sent()
    (event,) = wire.receiver.events
    assert_relay_ok(event)
    (value,) = event["exception"]["values"]
    assert (value["type"], value["mechanism"]["handled"]) == ("ValueError", True)
    assert value["stacktrace"]["frames"][-1]["function"] == "fail"
    assert event["contexts"]["trace"]["span_id"] == trace(transaction)["span_id"]
    (recorded,) = [json.loads(text) for text in trace(transaction)["data"]["otel.events"]]
    assert recorded["exception.type"] == "ValueError" and "exception.stacktrace" not in recorded


def test_links_arrive(wire: Wire) -> None:
    """On the root and on spans: ids, sampled flag, attributes, in the place that Sentry reads."""
    other = SpanContext(0xA1, 0xB2, is_remote=True, trace_flags=TraceFlags(1))
    links: Any = [Link(other, {"why": "batch"})]
    with wire.tracer.start_as_current_span("root", kind=SpanKind.CONSUMER, links=links):
        wire.tracer.start_span("child", links=links).end()
    (event,) = wire.sent()
    wanted = {"trace_id": f"{0xA1:032x}", "span_id": f"{0xB2:016x}", "sampled": True, "attributes": {"why": "batch"}}
    assert trace(event)["links"] == [wanted]
    assert children(event)["child"]["links"] == [wanted]
