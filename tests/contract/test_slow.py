"""Totals, slow marks and repeated queries on the wire: what Sentry and another backend get of one request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, set_span_in_context

from otel_sentry import monitor_performance
from otel_sentry.cli.receiver import Receiver
from otel_sentry.trace import slow, totals
from tests.support.wire import Wire, children, wired
from tests.support.wire import trace as trace_of

MS = 1_000_000
START = time.time_ns() - 10_000 * MS


@pytest.fixture(autouse=True)
def _limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(totals, "limits", slow.Limits())
    yield


def _request(wire: Wire) -> None:
    """Twelve queries of one shape, the last of them slow, and an outgoing request, in 2.5 seconds."""
    root = wire.tracer.start_span(
        "GET posts/", kind=SpanKind.SERVER, start_time=START,
        attributes={"http.request.method": "GET", "http.route": "posts/", "url.path": "/posts/"},
    )  # fmt: skip
    here = set_span_in_context(root)
    database = wire.provider.get_tracer("opentelemetry.instrumentation.psycopg")
    for number in range(12):
        begin = START + number * 100 * MS
        span = database.start_span(
            "SELECT", here, SpanKind.CLIENT, start_time=begin,
            attributes={"db.system.name": "postgresql", "db.query.text": f"SELECT * FROM post WHERE id = {number}"},
        )  # fmt: skip
        span.end(begin + (600 if number == 11 else 20) * MS)
    root.end(START + 2500 * MS)


def test_transaction(receiver: Receiver) -> None:
    """Sentry's transaction has the totals as data of its root, the mark on the slow query; Relay takes it."""
    with wired(receiver) as wire:
        other = InMemorySpanExporter()
        wire.provider.add_span_processor(SimpleSpanProcessor(other))
        _request(wire)
        event = wire.by_name()["GET /posts/"]
    expected = {
        "performance.response_time_ms": 2500.0,
        "performance.database_calls": 12,
        "performance.database_time_ms": 820.0,
        "performance.n_plus_one": 12,
        "performance.n_plus_one_query": "SELECT * FROM post WHERE id = ?",
        "slow_operation": True,
    }
    data = trace_of(event)["data"]
    assert {key: data.get(key) for key in expected} == expected
    marks = [span["data"].get("slow_operation") for span in event["spans"]]
    assert marks == [None] * 11 + [True]
    (root,) = [span for span in other.get_finished_spans() if span.parent is None]
    assert {key: (root.attributes or {}).get(key) for key in expected} == expected


def test_error(receiver: Receiver) -> None:
    """An issue's ``contexts.performance`` and breadcrumbs tell what was slow before it; unsampled requests' too."""
    with wired(receiver, traces_sample_rate=0.0) as wire:
        with wire.tracer.start_as_current_span("GET posts/", kind=SpanKind.SERVER):
            database = wire.provider.get_tracer("opentelemetry.instrumentation.psycopg")
            span = database.start_span("SELECT", kind=SpanKind.CLIENT, start_time=START)
            span.end(START + 700 * MS)
            from otel_sentry import capture_custom_exception

            capture_custom_exception(ValueError("no"))
        wire.flush()
        (event,) = receiver.events
    found = event["contexts"]["performance"]
    assert (found["database_calls"], found["database_time_ms"], found["slow_operation"]) == (1, 700.0, False)
    crumbs = event["breadcrumbs"]["values"]
    assert [crumb["message"] for crumb in crumbs if crumb["category"] == "performance"] == ["slow query: SELECT"]


def test_metrics_and_issues(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `OTEL_SENTRY_SLOW_AS_ISSUE` a slow block is an issue of its own in its transaction's trace, and a metric."""
    with wired(receiver, slow_as_issue=True) as wire:
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: wire.provider)
        with wire.tracer.start_as_current_span("GET posts/", kind=SpanKind.SERVER):
            with monitor_performance("import", threshold_ms=0):
                pass
        from otel_sentry import process

        process.flush_now(20)
        event = wire.by_name()["GET posts/"]
        (issue,) = receiver.events
        measured: list[Any] = [one for item in receiver.items("trace_metric") for one in item["items"]]
    assert issue["contexts"]["trace"]["trace_id"] == trace_of(event)["trace_id"]
    assert children(event)["import"]["data"]["slow_operation"] is True
    assert next(one for one in measured if one["name"] == "operation.slow")["value"] == 1
