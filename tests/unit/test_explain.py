"""`otel_sentry.explain`: which rule made a span what it is; and names that users give to instrumentors' spans."""

from __future__ import annotations

import types
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

import otel_sentry
from otel_sentry.convention import describe
from otel_sentry.convention.families import FAMILIES
from otel_sentry.convention.status import STEPS
from otel_sentry.trace import CARRIER_ATTRIBUTES
from otel_sentry.trace.provider import SentryTracerProvider

DJANGO = "opentelemetry.instrumentation.django"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> SentryTracerProvider:
    provider = SentryTracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def request(provider: Any, **attributes: Any) -> Any:
    given = {"http.request.method": "GET", **attributes}
    return provider.get_tracer(DJANGO).start_span("GET x/", kind=SpanKind.SERVER, attributes=given)


def test_a_finished_span(provider: SentryTracerProvider, exporter: InMemorySpanExporter) -> None:
    """It names the rule, the step that gave the status, and all fields that `describe` gives."""
    span = request(provider, **{"http.route": "x/", "http.response.status_code": 404})
    span.end()
    (finished,) = exporter.get_finished_spans()
    found = otel_sentry.explain(finished)
    assert (found.rule, found.status_rule, found.overrides) == ("http.server", "HTTP status code", ())
    assert found[2:8] == describe(finished, is_root=True)[:6]
    assert str(found).splitlines() == [
        "rule         http.server (a method, and kind SERVER (or the root span of a web scope))",
        "op           http.server",
        "description  GET /x/",
        "name         GET /x/ (source route)",
        "origin       auto.http.otel.django",
        "status       not_found (by HTTP status code)",
    ]


def test_a_live_span(provider: SentryTracerProvider) -> None:
    """A running span is explained as it stands, and changes nothing on it."""
    span = request(provider)
    before = dict(span.attributes)
    assert otel_sentry.explain(span).name == "GET /x/"
    span.set_status(Status(StatusCode.ERROR, "boom"))
    assert otel_sentry.explain(span).status_rule == "error"
    assert dict(span.attributes) == before
    span.end()


def test_overrides_are_named(provider: SentryTracerProvider) -> None:
    """The attributes that won over the rules are listed."""
    span = request(provider, **{"sentry.op": "mine", "sentry.status": "aborted"})
    found = otel_sentry.explain(span)
    assert (found.op, found.status, found.overrides) == ("mine", "aborted", ("sentry.op", "sentry.status"))
    assert str(found).endswith("overridden   by sentry.op, sentry.status")


def test_rows_have_names_of_their_own() -> None:
    """An answer of `explain` points to one row of each table."""
    for names in ([family.name for family in FAMILIES], [name for name, _ in STEPS]):
        assert len(set(names)) == len(names)
    assert FAMILIES[-1].name == "fallback"


def test_the_users_name_wins(provider: SentryTracerProvider) -> None:
    """2.2 step 0: `update_name` on an instrumentor's span is the user's own name, with source `custom`."""
    span = request(provider, **{"http.route": "x/"})
    span.update_name("checkout")
    found = describe(span, is_root=True)
    assert (found.op, found.name, found.source, found.description) == ("http.server", "checkout", "custom", "checkout")
    assert "sentry.custom_span_name" in CARRIER_ATTRIBUTES


def test_an_instrumentors_own_name_does_not(provider: SentryTracerProvider) -> None:
    """contrib renames its spans once the route is known: that is no user."""
    span = request(provider, **{"http.route": "y/"})
    contrib = types.ModuleType("opentelemetry.instrumentation.django.middleware")
    exec("def rename(span):\n    span.update_name('GET y/')", contrib.__dict__)
    contrib.rename(span)
    assert describe(span, is_root=True)[2:4] == ("GET /y/", "route")


def test_a_manual_span_needs_no_mark(provider: SentryTracerProvider) -> None:
    """The name of the user's own span is its name anyway."""
    span: Any = provider.get_tracer("shop").start_span("a")
    span.update_name("b")
    assert span.name == "b"
    assert not span.attributes
