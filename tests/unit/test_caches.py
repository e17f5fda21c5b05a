"""`otel_sentry.caches`: one span for one operation of a cache, whatever it is made of."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sentry import caches


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def test_nested_operations_are_one(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """A cache that is built on another one makes one span, the outermost; afterwards there is the next."""
    with provider.get_tracer("t").start_as_current_span("root"):
        with caches.operation("otel_sentry_django", "cache.get", ["a"], None, provider) as outer:
            with caches.operation("otel_sentry_redis", "cache.get", ["b"], None, provider) as inner:
                pass
        with caches.operation("otel_sentry_redis", "cache.put", ["b"], ("host", 1), provider) as later:
            pass
    assert outer is not None and inner is None and later is not None
    spans = [(span.name, dict(span.attributes or {})) for span in exporter.get_finished_spans()][:2]
    assert spans == [
        ("cache.get", {"cache.key": ("a",)}),
        ("cache.put", {"cache.key": ("b",), "network.peer.address": "host", "network.peer.port": 1}),
    ]


def test_no_span_outside_of_a_trace(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """A key is no name for a transaction."""
    with caches.operation("otel_sentry_redis", "cache.get", ["a"], None, provider) as span:
        assert span is None
    assert not exporter.get_finished_spans()


def test_exceptions_pass(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """What the cache raises reaches the caller, and the next operation has a span again."""
    with provider.get_tracer("t").start_as_current_span("root"):
        with pytest.raises(ConnectionError):
            with caches.operation("otel_sentry_redis", "cache.get", ["a"], None, provider):
                raise ConnectionError
        with caches.operation("otel_sentry_redis", "cache.get", ["a"], None, provider) as span:
            assert span is not None


def test_keys_are_bounded(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """A `get_many` of thousands does not make a span of megabytes."""
    with provider.get_tracer("t").start_as_current_span("root"):
        with caches.operation("otel_sentry_redis", "cache.get", ["x" * 9999] * 9999, None, provider):
            pass
    keys: Any = (exporter.get_finished_spans()[0].attributes or {})["cache.key"]
    assert (len(keys), len(keys[0])) == (caches.MAX_KEYS, caches.MAX_KEY)


class Lazy:
    """Something whose text would cost a query."""

    def __str__(self) -> str:
        raise AssertionError("asked for its text")


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (b"123", 3), (bytearray(4), 4), (memoryview(b"12345"), 5), ("abc", 3), ("ä€", None),
        ([b"1", "22", None], 3), ([], None), ([None], None), (7, None), ({"a": 1}, None), (Lazy(), None),
        ([b"1", Lazy()], None), (None, None),
        ([["1"]], None), (["1"] * (caches.MAX_VALUES + 1), None),
    ],
)  # fmt: skip
def test_size(value: Any, size: int | None) -> None:
    """Bytes, where they are known without serialising; never `str()` of a value."""
    assert caches.size_of(value) == size
