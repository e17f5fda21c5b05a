"""Cache spans on real backends: what the golden output does not show."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sentry import runtime
from otel_sentry.runtime import Runtime
from otel_sentry.settings import load
from otel_sentry_redis import RedisInstrumentor

pytestmark = pytest.mark.services
Spans = Callable[[], list[tuple[str, dict[str, Any]]]]


@pytest.fixture
def spans(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Spans]]:
    """A tracer, and the spans that ended; the test's parameter is the prefixes."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    nothing: Any = None
    runtime.set_current(Runtime(load({}, cache_prefixes=request.param), None, None, nothing, nothing))
    original = redis.Redis.execute_command
    RedisInstrumentor().instrument(tracer_provider=provider)

    def finished() -> list[tuple[str, dict[str, Any]]]:
        return [(span.name, dict(span.attributes or {})) for span in exporter.get_finished_spans()]

    yield provider.get_tracer("t"), finished
    RedisInstrumentor().uninstrument()
    runtime.set_current(None)
    assert redis.Redis.execute_command is original


@pytest.mark.parametrize("spans", [("shop:",)], indirect=True)
def test_redis(spans: tuple[Any, Spans], valkey_url: str) -> None:
    """Keys as bytes, values of every kind, decoded answers; other keys and errors make no cache span of their own."""
    tracer, finished = spans
    with tracer.start_as_current_span("root"), redis.Redis.from_url(valkey_url, decode_responses=True) as one:
        one.set(b"shop:b", 17)
        assert one.get(memoryview(b"shop:b")) == "17"
        assert one.get("private") is None
        one.mset({"shop:x": "1", "other": "22"})
        one.lpush("shop:list", "a")
        with pytest.raises(redis.ResponseError):
            one.get("shop:list")
        assert one.flushdb()
    found = [(name, attributes) for name, attributes in finished() if name.startswith("cache.")]
    assert [(name, one.get("cache.key"), one.get("cache.hit"), one.get("cache.item_size")) for name, one in found] == [
        ("cache.put", ("shop:b",), None, None),
        ("cache.get", ("shop:b",), True, 2),
        ("cache.put", ("shop:x",), None, 3),
        ("cache.get", ("shop:list",), None, None),
        ("cache.flush", None, None, None),
    ]


@pytest.mark.parametrize("spans", [()], indirect=True)
def test_without_prefixes_nothing_is_wrapped(spans: tuple[Any, Spans], valkey_url: str) -> None:
    """No prefix, no cost: the only wrapper is contrib's."""
    tracer, finished = spans
    assert not hasattr(redis.Redis.execute_command.__wrapped__, "__wrapped__")
    with tracer.start_as_current_span("root"), redis.Redis.from_url(valkey_url) as one:
        one.get("shop:1")
    assert [name for name, _ in finished()] == ["GET", "root"]


@pytest.mark.parametrize("spans", [("shop:",)], indirect=True)
def test_concurrent_reads_are_all_seen(spans: tuple[Any, Spans], valkey_url: str) -> None:
    """Tasks of asyncio don't hide each other's operations."""
    tracer, finished = spans

    async def run() -> None:
        async with redis.asyncio.Redis.from_url(valkey_url) as one:
            await asyncio.gather(*(one.get(f"shop:{index}") for index in range(10)))

    with tracer.start_as_current_span("root"):
        asyncio.run(run())
    assert [name for name, _ in finished()].count("cache.get") == 10


DJANGO = r"""
import asyncio, json, pickle
import django
from django.conf import settings
settings.configure(CACHES={
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "KEY_PREFIX": "p"},
    "redis": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": ["redis://u:secret@cache:7/1"]},
    "files": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "/nowhere"},
})
import otel_sentry
otel_sentry.configure(dsn="http://e@127.0.0.1:9/1", traces_sample_rate=1.0)
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
django.setup()
from django.core.cache import cache, caches
from django.core.cache.backends.locmem import LocMemCache

class Lazy:
    def __str__(self):
        raise AssertionError("asked for its text")

with otel_sentry.span("root"):
    cache.set("a", Lazy(), timeout=5)
    cache.get_many(key for key in ("a", "b"))
    cache.get(key="b", default=3)
    assert cache.get_or_set("c", lambda: b"12") == b"12"
    cache.add("c", b"1")
    cache.incr("n") if "n" in cache else cache.set("n", 1)
    cache.set_many({"x": "1", "y": "22"})
    cache.delete("django.contrib.sessions.cachesessionid")
    cache.clear()
    asyncio.run(cache.aget("z"))
assert isinstance(caches["default"], LocMemCache) and type(caches["default"]).__name__ == "LocMemCache"
cache.get("outside")
peers = [getattr(caches[name], "_otel_sentry_peer", "missing") for name in ("default", "redis", "files")]
print(json.dumps([[(s.name, s.attributes.get("cache.key"), s.attributes.get("cache.hit"),
    s.attributes.get("cache.item_size")) for s in exporter.get_finished_spans() if s.name != "root"], peers]))
"""


def django_program(**environ: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", DJANGO],
        env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_django() -> None:
    """Generators of keys are read once, session ids are no keys to show, passwords no address; no `str()` of values."""
    found, peers = django_program()
    assert found == [
        ["cache.put", ["a"], None, None],
        ["cache.get", ["a", "b"], False, None],
        ["cache.get", ["b"], False, None],
        ["cache.get", ["c"], False, None],
        ["cache.put", ["c"], None, 2],
        ["cache.get", ["c"], True, 2],
        ["cache.put", ["c"], None, 1],
        ["cache.put", ["n"], None, None],
        ["cache.put", ["x", "y"], None, 3],
        ["cache.remove", ["django.contrib.sessions.[Filtered]"], None, None],
        ["cache.flush", None, None, None],
        ["cache.get", ["z"], False, None],
    ]
    assert peers == [None, ["cache", 7], None]


def test_django_can_be_turned_off() -> None:
    """`OTEL_SENTRY_DJANGO_CACHE_SPANS=0` leaves Django's caches alone."""
    found, peers = django_program(OTEL_SENTRY_DJANGO_CACHE_SPANS="0")
    assert (found, peers) == ([], ["missing"] * 3)
