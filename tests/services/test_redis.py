"""redis-py against a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from opentelemetry.instrumentation.redis import RedisInstrumentor as ContribInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sentry_redis import RedisInstrumentor

pytestmark = pytest.mark.services
seen: list[tuple[Any, ...]] = []


def request_hook(span: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The application's own hook."""
    seen.append(args)


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """redis-py instrumented on a stock provider, with a hook of the application's."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen.clear()
    RedisInstrumentor().instrument(tracer_provider=provider, request_hook=request_hook)
    yield exporter
    RedisInstrumentor().uninstrument()


def test_commands_and_pipelines(valkey_url: str, exporter: InMemorySpanExporter) -> None:
    """A command is one span without its arguments; the application's own hook gets them."""
    with redis.Redis.from_url(valkey_url) as client:
        client.set("otel-sentry:test", "secret")
        with client.pipeline() as pipeline:
            pipeline.get("otel-sentry:test").delete("otel-sentry:test").execute()
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["SET", "GET DEL"]
    assert "secret" not in str([dict(span.attributes or {}) for span in spans])
    assert seen == [("SET", "otel-sentry:test", "secret")]


def test_async_client(valkey_url: str, exporter: InMemorySpanExporter) -> None:
    """The asyncio client's commands are spans as well."""

    async def ping() -> None:
        async with redis.asyncio.Redis.from_url(valkey_url) as client:
            await client.ping()

    asyncio.run(ping())
    assert [span.name for span in exporter.get_finished_spans()] == ["PING"]


def test_contribs_own_call_does_not_instrument_twice(valkey_url: str, exporter: InMemorySpanExporter) -> None:
    """An application that calls contrib's instrumentor as well still gets one span a command."""
    ContribInstrumentor().instrument()
    with redis.Redis.from_url(valkey_url) as client:
        client.ping()
    assert len(exporter.get_finished_spans()) == 1
