"""What a message takes along of user and operation, and what becomes of it at the other end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from otel_sentry import ambient, set_business_context, set_user, tag_business_operation
from otel_sentry.ambient import carry
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.processors import BusinessSpanProcessor, UserSpanProcessor
from otel_sentry.trace.segment import table


@pytest.fixture
def tracer() -> Tracer:
    table.clear()
    provider = TracerProvider()
    provider.add_span_processor(SpanPipeline())
    return provider.get_tracer("test")


@pytest.fixture
def journey(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registered part that keeps its value in the Context."""
    monkeypatch.setattr(carry, "_parts", {})
    key = otel_context.create_key("test-journey")

    def read() -> str | None:
        return str(otel_context.get_value(key) or "") or None

    carry.register("journey", read, lambda text, context: otel_context.set_value(key, text, context))
    yield key


def test_only_what_is_listed(tracer: Tracer) -> None:
    """Ids and names by default; e-mail and details when they are asked for."""
    with tracer.start_as_current_span("request"), tag_business_operation("pay", module="shop", card="4111"):
        set_user({"id": 7, "email": "ann@example.com", "user_type": "admin"})
        assert ambient.carried() == {"user.id": "7", "user_type": "admin", "operation": "pay", "module": "shop"}
        assert ambient.carried(("user.email", "details", "unknown")) == {
            "user.email": "ann@example.com", "details": '{"card": "4111"}',
        }  # fmt: skip
    assert ambient.carried() == {}


def test_the_root_begins_with_it(tracer: Tracer) -> None:
    """User and operation of the message hold for the root and below, until the task says otherwise; not after it."""
    values = {"user.id": "7", "user_type": "admin", "operation": "pay", "module": "shop", "user.email": "a@b.c"}
    context = ambient.restore(values, Context())
    with tracer.start_as_current_span("run", context=context) as run:
        assert run.attributes == {  # type: ignore[attr-defined]
            "user.id": "7", "user_type": "admin", "business.operation": "pay", "business.module": "shop",
        }  # fmt: skip
        assert ambient.current().user == {"id": "7", "user_type": "admin"}
        set_user({"id": "8"})
        set_business_context("refund")
        assert ambient.carried() == {"user.id": "8", "operation": "refund"}
    assert ambient.current() == ambient.Ambient()


def test_without_segments(tracer: Tracer) -> None:
    """The public processors alone copy it too."""
    provider = TracerProvider()
    provider.add_span_processor(UserSpanProcessor())
    provider.add_span_processor(BusinessSpanProcessor())
    context = ambient.restore({"user.id": "7", "operation": "pay"}, Context())
    with provider.get_tracer("test").start_as_current_span("run", context=context) as run:
        assert run.attributes == {"user.id": "7", "business.operation": "pay"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("bad", [None, "text", 5, [1], {}, {"user.id": 5}, {"operation": None, "module": "x"}])
def test_bad_values(bad: Any) -> None:
    """What another program wrote there does no harm."""
    context = Context()
    assert ambient.restore(bad, context) == context
    assert ambient.restore({"operation": "pay", "details": "{cut"}, context, ("operation", "details")) != context


def test_a_registered_part(tracer: Tracer, journey: str) -> None:
    """Others join by name: read where a message is published, written into the task's Context."""
    token = otel_context.attach(otel_context.set_value(journey, "signup"))
    try:
        assert ambient.carried() == {"journey": "signup"}
        assert ambient.carried(("user.id",)) == {}
    finally:
        otel_context.detach(token)
    context = ambient.restore({"journey": "signup"}, Context())
    assert otel_context.get_value(journey, context) == "signup"
