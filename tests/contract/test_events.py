"""What an error event carries beyond its stack trace, as it leaves, accepted by Relay (decisions 6 to 8)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_sentry.business.operations import tag_business_operation
from otel_sentry.cli.receiver import Receiver
from otel_sentry.sentry import client, hooks
from otel_sentry.sentry.dsn import Dsn
from otel_sentry.sentry.sender import Sender, sentry_target
from otel_sentry.trace.segment import Segment, current_segment
from otel_sentry.trace.tracestate import Decision
from tests.support.client import DSN, Sentry, sentry_sdk_set_up
from tests.support.relay import assert_relay_ok
from tests.unit.test_client import capture, raised

HTTP = {"http.request.method": "POST", "http.route": "orders/<int:pk>", "url.path": "/orders/7"}


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up(release="shop@1.0", max_breadcrumbs=5) as one:
        yield one


def segment() -> Segment:
    found = current_segment()
    assert found is not None
    return found


def hexed(span: Any) -> tuple[str, str]:
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def query(sentry: Sentry, text: str, system: str = "postgresql") -> None:
    attributes = {"db.system.name": system, "db.query.text": text}
    with sentry.tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT, attributes=attributes):
        pass


def test_everything_at_once(sentry: Sentry) -> None:
    """An error carries trace, transaction, user, tags, business context, request, timings, breadcrumbs."""
    with sentry.tracer.start_as_current_span("POST orders/<int:pk>", kind=SpanKind.SERVER, attributes=HTTP) as root:
        one = segment()
        one.user = {"id": "7", "user_type": "customer", "email": "ada@example.test"}
        one.tags["tenant"] = "acme"
        one.request = lambda: {
            "method": "POST",
            "url": "https://shop.example.test/orders/7",
            "query_string": "token=s3cret&page=2",
            "headers": {"User-Agent": "curl/8", "Authorization": "Bearer s3cret"},
            "env": {"REMOTE_ADDR": "192.0.2.7"},
        }
        query(sentry, "SELECT name FROM orders WHERE id = 7")
        query(sentry, "GET order:7", system="redis")
        with tag_business_operation("order_update", module="orders", order=7):
            capture(raised(ValueError("boom")), handled=False)
    (event,) = sentry.unchecked
    trace_id, span_id = hexed(root)
    trace = event["contexts"]["trace"]
    assert (trace["trace_id"], trace["span_id"], trace["op"]) == (trace_id, span_id, "http.server")
    assert event["transaction"] == "POST /orders/<int:pk>"
    assert event["transaction_info"] == {"source": "route"}
    assert event["user"] == {"id": "7", "user_type": "customer"}
    assert event["tags"] == {"tenant": "acme", "user_type": "customer"}
    business = event["contexts"]["business_context"]
    assert business == {"operation": "order_update", "module": "orders", "details": {"order": 7}}
    performance = event["contexts"]["performance"]
    assert performance["response_time_ms"] > 0
    assert (performance["database_calls"], performance["cache_calls"]) == (1, 1)
    details = event["contexts"]["request_details"]
    assert details == {"method": "POST", "path": "/orders/7", "user_agent": "curl/8"}
    assert "s3cret" not in str(event)
    assert event["request"]["method"] == "POST"
    crumbs = event["breadcrumbs"]["values"]
    assert [crumb["category"] for crumb in crumbs] == ["request", "query", "redis", "error"]
    assert crumbs[0]["message"] == "Request started: POST /orders/<int:pk>"
    assert crumbs[1]["message"] == "SELECT name FROM orders WHERE id = ?"
    assert crumbs[1]["data"]["duration_ms"] >= 0
    assert crumbs[3]["message"] == "Error occurred: ValueError"


def test_relay_takes_it(sentry: Sentry) -> None:
    """Relay has nothing to object to an event with all of our blocks."""
    with sentry.tracer.start_as_current_span("POST orders/<int:pk>", kind=SpanKind.SERVER, attributes=HTTP):
        segment().user = {"id": "7", "user_type": "customer"}
        segment().request = lambda: {"method": "POST", "url": "https://shop.example.test/orders/7"}
        query(sentry, "SELECT 1")
        with tag_business_operation("order_update", module="orders"):
            capture(raised(ValueError("boom")), contexts={"custom": {"a": [1, {"b": 2}]}}, tags={"kind": "x"})
    assert sentry.event["exception"]


def test_the_sampling_context_is_the_envelopes_header(sentry: Sentry) -> None:
    """The segment's DSC becomes the envelope's header `trace` and leaves no trace in the event."""
    with sentry.tracer.start_as_current_span("root"):
        segment().decision = Decision(True, 0.5, 0.25)
        capture(raised(ValueError("boom")))
        expected = dict(segment().frozen_dsc or {})
    (envelope,) = sentry.sender.envelopes
    assert envelope.header["trace"] == expected
    assert expected["public_key"] == "public" and expected["sampled"] == "true"
    assert "dynamic_sampling_context" not in sentry.event["contexts"]["trace"]


def test_the_sdk_is_named(sentry: Sentry) -> None:
    """The DSN of the test names the organisation, and no DSN is in the envelope's header."""
    capture(raised(ValueError("boom")))
    assert DSN not in str(sentry.sender.envelopes[0].header)


def test_the_innermost_span(sentry: Sentry) -> None:
    """An exception that escaped inner spans, reported at the root, carries the ids of the innermost one."""
    with sentry.tracer.start_as_current_span("root"):
        try:
            with sentry.tracer.start_as_current_span("middle") as middle:
                with sentry.tracer.start_as_current_span("inner") as inner:
                    raise ValueError("boom")
        except ValueError as exc:
            capture(exc, handled=False)
    trace = sentry.event["contexts"]["trace"]
    assert (trace["span_id"], trace["parent_span_id"]) == (hexed(inner)[1], hexed(middle)[1])


def test_the_cause_of_an_exception(sentry: Sentry) -> None:
    """An exception raised from one that an inner span saw takes that span's ids; it is one issue."""
    with sentry.tracer.start_as_current_span("root"):
        try:
            try:
                with sentry.tracer.start_as_current_span("query") as inner:
                    raise KeyError("row")
            except KeyError as exc:
                raise ValueError("no such order") from exc
        except ValueError as exc:
            capture(exc)
    event = sentry.event
    assert event["contexts"]["trace"]["span_id"] == hexed(inner)[1]
    assert [value["type"] for value in event["exception"]["values"]] == ["KeyError", "ValueError"]


def test_a_group_of_exceptions(sentry: Sentry) -> None:
    """A group raised by a TaskGroup takes the ids of the span that saw its first member."""
    if sys.version_info < (3, 11):
        pytest.skip("exception groups came with 3.11")
    import asyncio

    async def child() -> None:
        with sentry.tracer.start_as_current_span("child") as span:
            spans.append(span)
            raise KeyError("one")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    spans: list[Any] = []
    with sentry.tracer.start_as_current_span("root"):
        with pytest.raises(ExceptionGroup) as caught:  # noqa: F821 - a builtin since 3.11
            asyncio.run(main())
        capture(caught.value)
    assert sentry.event["contexts"]["trace"]["span_id"] == hexed(spans[0])[1]


def test_handled_exceptions_are_only_remembered(sentry: Sentry) -> None:
    """An exception that escapes a span and is handled makes no issue (get_or_create's IntegrityError)."""
    with sentry.tracer.start_as_current_span("root"):
        with pytest.raises(KeyError), sentry.tracer.start_as_current_span("INSERT"):
            raise KeyError("duplicate")
    assert sentry.unchecked == []


def test_after_the_root_has_ended(sentry: Sentry) -> None:
    """An exception reported after its root has ended still has transaction, user and sampling context."""
    try:
        with sentry.tracer.start_as_current_span("job") as root:
            segment().user = {"id": "7"}
            raise ValueError("boom")
    except ValueError as exc:
        client.capture_exception(exc, handled=False, mechanism="excepthook")
    event = sentry.event
    assert event["contexts"]["trace"]["span_id"] == hexed(root)[1]
    assert (event["transaction"], event["user"]["id"]) == ("job", "7")
    assert sentry.sender.envelopes[0].header["trace"]["trace_id"] == hexed(root)[0]


def test_in_a_thread_of_its_own(sentry: Sentry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unhandled exception of a thread with a root of its own is linked to that root."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    hooks.install()
    ids: list[str] = []

    def work() -> None:
        with sentry.tracer.start_as_current_span("thread work") as span:
            ids.append(hexed(span)[0])
            raise ValueError("boom")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    hooks.uninstall()
    assert sentry.event["contexts"]["trace"]["trace_id"] == ids[0]


def test_the_business_operation_of_an_exception(sentry: Sentry) -> None:
    """An exception that left a business operation is reported with it."""
    with sentry.tracer.start_as_current_span("root"):
        try:
            with tag_business_operation("payment", module="billing"):
                raise ValueError("declined")
        except ValueError as exc:
            capture(exc, contexts={"business_context": {"operation": "payment_card"}})
    business = sentry.event["contexts"]["business_context"]
    assert (business["operation"], business["module"]) == ("payment_card", "billing")


def test_the_event_id_goes_back(sentry: Sentry) -> None:
    """The id of a captured event is an attribute of the live span, and on the segment."""
    with sentry.tracer.start_as_current_span("root"):
        with sentry.tracer.start_as_current_span("inner") as inner:
            event_id = capture(raised(ValueError("boom")))
            one = segment()
    assert inner.attributes["sentry.event_id"] == event_id  # type: ignore[attr-defined]
    assert one.event_ids == [(inner.get_span_context().span_id, event_id)]


def test_dropped_events_leave_no_id() -> None:
    """An event that before_send dropped leaves no id on span or segment."""
    with sentry_sdk_set_up(before_send=lambda event, hint: None) as sentry:
        with sentry.tracer.start_as_current_span("root") as root:
            capture(raised(ValueError("boom")))
            assert segment().event_ids == []
        assert "sentry.event_id" not in root.attributes  # type: ignore[attr-defined]


def test_breadcrumbs_are_ordered_and_bounded(sentry: Sentry) -> None:
    """Crumbs of spans and of sentry_sdk come in order of time, the last max_breadcrumbs of them."""
    import sentry_sdk

    client.ensure()
    with sentry.tracer.start_as_current_span("root"):
        for number in range(4):
            query(sentry, f"SELECT {number} FROM t")
            sentry_sdk.add_breadcrumb(category="app", message=f"step {number}")
        capture(raised(ValueError("boom")))
    values = sentry.event["breadcrumbs"]["values"]
    assert [crumb["category"] for crumb in values] == ["query", "app", "query", "app", "error"]
    stamps = [crumb["timestamp"] for crumb in values]
    assert stamps == sorted(stamps)


def test_a_failed_span_is_an_error_crumb(sentry: Sentry) -> None:
    """A span that failed is a breadcrumb of level error; http spans show method, URL and status."""
    attributes: dict[str, Any] = {
        "http.request.method": "GET",
        "url.full": "https://api.example.test/v1",
        "http.response.status_code": 503,
    }
    with sentry.tracer.start_as_current_span("root"):
        with sentry.tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=attributes) as span:
            span.set_status(Status(StatusCode.ERROR))
        capture(raised(ValueError("boom")))
    crumb, _ = sentry.event["breadcrumbs"]["values"]
    assert (crumb["type"], crumb["category"], crumb["level"]) == ("http", "http", "error")
    assert crumb["data"]["status_code"] == 503
    assert sentry.event["contexts"]["performance"]["external_calls"] == 1


@pytest.mark.allow_swallowed
def test_a_broken_request_reader(sentry: Sentry) -> None:
    """A reader of the request that raises costs the request block, not the event or its trace."""

    def broken() -> Any:
        raise RuntimeError("request is gone")

    with sentry.tracer.start_as_current_span("root") as root:
        segment().request = broken
        capture(raised(ValueError("boom")))
    assert sentry.event["contexts"]["trace"]["span_id"] == hexed(root)[1]
    assert sentry.event["transaction"] == "root"


def test_a_user_found_with_the_request(sentry: Sentry) -> None:
    """A user that a framework finds while it is asked for its request is on the event."""
    with sentry.tracer.start_as_current_span("root"):
        one = segment()

        def read() -> dict[str, Any]:
            one.user = {"id": "9"}
            return {"method": "GET", "url": "https://shop.example.test/"}

        one.request = read
        capture(raised(ValueError("boom")))
    assert sentry.event["user"] == {"id": "9"}


def test_outside_of_any_span(sentry: Sentry) -> None:
    """Without a span an event is still whole, in a trace of sentry_sdk's own."""
    capture(raised(ValueError("boom")))
    assert len(sentry.event["contexts"]["trace"]["trace_id"]) == 32
    assert "transaction" not in sentry.event


def test_the_applications_own_message(sentry: Sentry) -> None:
    """What the app captures through sentry_sdk is enriched alike."""
    import sentry_sdk

    client.ensure()
    with sentry.tracer.start_as_current_span("root") as root:
        sentry_sdk.capture_message("hello")
    assert sentry.event["contexts"]["trace"]["span_id"] == hexed(root)[1]
    assert sentry.event["transaction"] == "root"


def test_over_the_wire(receiver: Receiver) -> None:
    """With the real sender an error arrives at a real server as Relay wants it."""
    with sentry_sdk_set_up(dsn=receiver.dsn) as sentry:
        sentry.runtime.dsn = Dsn.parse(receiver.dsn)
        sentry.runtime.sender = sender = Sender([sentry_target(sentry.runtime.dsn)])
        with sentry.tracer.start_as_current_span("root"):
            event_id = capture(raised(ValueError("boom")))
        assert sender.flush(5)
        sender.close(2)
    (event,) = receiver.events
    assert event["event_id"] == event_id
    assert_relay_ok(event)
    assert receiver.envelopes[0].trace["public_key"] == receiver.key
    assert receiver.faults == []
