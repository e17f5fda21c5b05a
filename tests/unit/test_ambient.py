"""User and business context: on spans, per context, never beyond the local root."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.functional import SimpleLazyObject
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sentry import TraceContextFilter, ambient, guard, set_business_context, set_user, tag_business_operation
from otel_sentry.trace.pipeline import SpanPipeline
from otel_sentry.trace.processors import BusinessSpanProcessor, UserSpanProcessor
from otel_sentry.trace.segment import current_segment, table


@pytest.fixture
def rig() -> Iterator[tuple[Any, InMemorySpanExporter]]:
    """A stock provider with the fused pipeline and an exporter that keeps the spans."""
    table.clear()
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SpanPipeline())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test"), exporter


def _attributes(spans: Any) -> dict[str, dict[str, Any]]:
    return {span.name: dict(span.attributes or {}) for span in spans if isinstance(span, ReadableSpan)}


def test_operation_is_on_everything_inside(rig: Any) -> None:
    """Spans started inside carry operation, module and details; spans outside do not."""
    tracer, exporter = rig
    with tracer.start_as_current_span("root"):
        with tag_business_operation("checkout", module="shop", plan="pro", cart=[1]):
            tracer.start_span("inside").end()
        tracer.start_span("outside").end()
    found = _attributes(exporter.get_finished_spans())
    assert found["inside"] == {
        "business.operation": "checkout", "business.module": "shop", "business.plan": "pro", "business.cart": "[1]",
    }  # fmt: skip
    assert found["outside"] == {}


def test_details_run_no_code_of_the_programs(rig: Any) -> None:
    """The text of an object (of a QuerySet: a query, and so a span that gets the details) is never asked for."""
    tracer, exporter = rig

    class Rows:
        def __str__(self) -> str:
            with tracer.start_as_current_span("query"):
                return "rows"

    with tracer.start_as_current_span("root"), tag_business_operation("list", module="m", rows=Rows()):
        tracer.start_span("inside").end()
    found = _attributes(exporter.get_finished_spans())
    assert sorted(found) == ["inside", "root"]
    assert "Rows" in found["inside"]["business.rows"]


def test_a_user_without_text(rig: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """An id that can't be shown is said where it is set; no span and no log record stumbles over it later."""

    class Mute:
        def __str__(self) -> str:
            raise ZeroDivisionError

    tracer, exporter = rig
    with tracer.start_as_current_span("root"):
        set_user({"id": Mute()})
        set_business_context("op", Mute())  # type: ignore[arg-type]
        tracer.start_span("inside").end()
        one = logging.makeLogRecord({})
        assert TraceContextFilter().filter(one) and vars(one)["user_id"] == ""
    assert sorted(_attributes(exporter.get_finished_spans())) == ["inside", "root"]
    assert "set_user" in capsys.readouterr().err
    guard.swallowed.clear()


def test_operation_as_decorator_keeps_the_function() -> None:
    """Name, signature, return value and coroutine-ness stay; the module defaults to the function's top package."""

    @tag_business_operation("add")
    def add(a: int, b: int = 2) -> int:
        business = ambient.current().business
        assert business is not None and business.module == __name__.partition(".")[0]
        return a + b

    @tag_business_operation("add_async", module="m")
    async def add_async(a: int) -> int:
        await asyncio.sleep(0)
        assert ambient.current().business == ambient.Business("add_async", "m")
        return a

    assert add(1) == 3 and add.__name__ == "add" and list(inspect.signature(add).parameters) == ["a", "b"]
    assert inspect.iscoroutinefunction(add_async) and asyncio.run(add_async(4)) == 4
    assert ambient.current().business is None


def test_operations_of_concurrent_tasks_do_not_mix() -> None:
    """Two asyncio tasks inside different operations each see their own."""

    async def one(name: str) -> str:
        with tag_business_operation(name):
            await asyncio.sleep(0.01)
            business = ambient.current().business
            return business.operation if business else ""

    async def both() -> list[str]:
        return list(await asyncio.gather(one("a"), one("b")))

    assert asyncio.run(both()) == ["a", "b"]


def test_user_is_forgotten_with_the_root(rig: Any) -> None:
    """set_user reaches later spans of the same root, and nothing of the next root."""
    tracer, exporter = rig
    with tracer.start_as_current_span("first"):
        set_user({"id": 7, "email": "a@b.c"}, user_type="customer")
        tracer.start_span("child").end()
    with tracer.start_as_current_span("second"):
        segment = current_segment()
        assert segment is not None and segment.user is None
    found = _attributes(exporter.get_finished_spans())
    assert found["child"] == {"user.id": "7", "user_type": "customer"}
    assert found["first"] == {"user.id": "7", "user_type": "customer"}
    assert found["second"] == {}


def test_outside_of_a_root_nothing_sticks() -> None:
    """Without a root there is no end at which a user could be forgotten: the call does nothing."""
    set_user("7")
    set_business_context("x")
    assert ambient.current() == ambient.Ambient()


def test_django_user_is_read_without_a_query() -> None:
    """Only the instance dictionary is read: no property, no deferred field, no lazy object is touched."""

    class Meta:
        class pk:
            attname = "id"

    class User:
        _meta = Meta

        def __init__(self) -> None:
            self.id = 3
            self.is_staff = True

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"touched {name}")

    assert ambient.loaded_user(User.__new__(User)) is None
    assert ambient.loaded_user(User()) == {"id": "3", "user_type": "admin"}
    lazy = SimpleLazyObject(User)
    assert ambient.loaded_user(lazy) is None  # still unevaluated, and stays so
    assert lazy.id == 3
    assert ambient.loaded_user(lazy) == {"id": "3", "user_type": "admin"}


def test_fused_and_separate_give_the_same(rig: Any) -> None:
    """business.md 1: the fused pipeline and the public processors one by one put the same on a span."""
    tracer, exporter = rig
    parts = InMemorySpanExporter()
    separate = TracerProvider()
    for processor in (UserSpanProcessor(), BusinessSpanProcessor(), SimpleSpanProcessor(parts)):
        separate.add_span_processor(processor)
    with tracer.start_as_current_span("root"):
        set_user("1")
        with tag_business_operation("op"):
            tracer.start_span("fused").end()
            # Its parent is the fused provider's span, whose segment holds the user.
            separate.get_tracer("t").start_span("separate").end()
    fused = _attributes(exporter.get_finished_spans())["fused"]
    wanted = {"user.id": "1", "business.operation": "op", "business.module": "tests"}
    assert _attributes(parts.get_finished_spans())["separate"] == fused == wanted
