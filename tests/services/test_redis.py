"""redis-py against a real Valkey."""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as Stability
from opentelemetry.instrumentation.redis import RedisInstrumentor as ContribInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sentry import runtime
from otel_sentry.demo import servers
from otel_sentry.runtime import Runtime
from otel_sentry.settings import load
from otel_sentry_redis import RedisInstrumentor

pytestmark = pytest.mark.services
seen: list[tuple[Any, ...]] = []


def request_hook(span: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The application's own hook."""
    seen.append(args)


class Traced:
    """The spans of redis-py, and a tracer for their parents."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.root = self.provider.get_tracer("t").start_as_current_span

    @property
    def spans(self) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name != "root"]

    def caches(self) -> list[tuple[Any, ...]]:
        """Name, keys, hit and size of each cache span, and the names of what is below it."""
        found = []
        for span in self.spans:
            if span.name.startswith("cache.") and span.context is not None:
                values = span.attributes or {}
                below = [one.name for one in self.spans if one.parent and one.parent.span_id == span.context.span_id]
                keys, hit, size = (values.get(f"cache.{name}") for name in ("key", "hit", "item_size"))
                found.append((span.name, keys, hit, size, below))
        return found


@pytest.fixture
def traced(request: pytest.FixtureRequest) -> Iterator[Traced]:
    """redis-py instrumented on a stock provider, with a hook of the application's; keys below `shop:` are a cache."""
    one = Traced()
    seen.clear()
    nothing: Any = None
    runtime.set_current(Runtime(load({}, cache_prefixes=("shop:",)), None, None, nothing, nothing))
    RedisInstrumentor().instrument(tracer_provider=one.provider, request_hook=request_hook)
    yield one
    RedisInstrumentor().uninstrument()
    runtime.set_current(None)


@pytest.mark.parametrize(
    ("mode", "text", "system"),
    [("", "db.statement", "db.system"), ("database", "db.query.text", "db.system.name")],
)
def test_commands_and_pipelines(valkey_url: str, monkeypatch: pytest.MonkeyPatch, mode: str, text: str, system: str,
                                request: pytest.FixtureRequest) -> None:  # fmt: skip
    """A command is one span without its arguments, a pipeline is one, by both conventions' names."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", mode)
    monkeypatch.setattr(Stability, "_initialized", False)
    monkeypatch.setattr(Stability, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {})
    traced: Traced = request.getfixturevalue("traced")
    with redis.Redis.from_url(valkey_url) as client:
        client.set("otel-sentry:test", "secret")
        with client.pipeline() as pipeline:
            pipeline.get("otel-sentry:test").delete("otel-sentry:test").execute()
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(500):
                pipeline.incr("otel-sentry:test")
            pipeline.execute()
        client.delete("otel-sentry:test")
    found = [(span.name, span.attributes or {}) for span in traced.spans]
    assert [(name, one[system], one.get("db.redis.pipeline_length")) for name, one in found] == [
        ("SET", "redis", None),
        ("PIPELINE", "redis", 2),
        ("PIPELINE INCRBY", "redis", 500),
        ("DEL", "redis", None),
    ]
    assert [one[text] for _, one in found[:2]] == ["SET ? ?", "GET ?\nDEL ?"]
    assert len(str(found[2][1][text])) < 1500
    assert "secret" not in str(found) and "otel-sentry:test" not in str(found)
    assert seen[0] == ("SET", "otel-sentry:test", "secret")


def test_cache_spans_of_pipelines(valkey_url: str, traced: Traced) -> None:
    """Commands of one kind on a cache's keys: one span with the keys, hit and size. Several kinds: none."""

    async def read() -> list[Any]:
        async with redis.asyncio.Redis.from_url(valkey_url) as client, client.pipeline() as pipeline:
            found: list[Any] = await pipeline.get("shop:a").get("shop:b").get("other").execute()
            return found

    with traced.root("root"), redis.Redis.from_url(valkey_url) as client:
        with client.pipeline() as pipeline:
            pipeline.set("shop:a", b"123").set("shop:b", b"4567").expire("shop:a", 60).incr("other").execute()
            pipeline.get("shop:a").mget(["shop:b", "other"]).execute()
            pipeline.get("shop:a").get("shop:nothing").execute()
            pipeline.get("shop:a").delete("shop:a").execute()
            pipeline.get("other").execute()
            pipeline.lpush("shop:list", "1").get("shop:list").execute(raise_on_error=False)
            pipeline.delete("shop:b", "shop:list", "shop:a", "other").execute()
        asyncio.run(read())
    assert traced.caches() == [
        ("cache.put", ("shop:a", "shop:b"), None, 7, ["PIPELINE"]),
        ("cache.get", ("shop:a", "shop:b"), True, 7, ["PIPELINE"]),
        ("cache.get", ("shop:a", "shop:nothing"), False, 3, ["PIPELINE GET"]),
        ("cache.get", ("shop:list",), None, None, ["PIPELINE"]),
        ("cache.remove", ("shop:b", "shop:list", "shop:a"), None, None, ["PIPELINE DEL"]),
        ("cache.get", ("shop:a", "shop:b"), False, None, ["PIPELINE GET"]),
    ]
    assert len([span for span in traced.spans if not span.name.startswith("cache.")]) == 8


def test_a_lost_watch_is_no_failure(valkey_url: str, traced: Traced) -> None:
    """Somebody else was faster: the program gets its WatchError, neither span is an error."""
    with traced.root("root"), redis.Redis.from_url(valkey_url) as client, client.pipeline() as pipeline:
        pipeline.watch("shop:w")
        client.set("shop:w", "1")
        pipeline.multi()
        pipeline.set("shop:w", "2")
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    assert all(span.status.is_unset for span in traced.spans)
    assert [one[0] for one in traced.caches()] == ["cache.put", "cache.put"]


def peak_of(action: Callable[[], Any]) -> int:
    """Bytes that *action* needed at most."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("decode", [False, True])
def test_values_are_not_copied(valkey_url: str, traced: Traced, decode: bool) -> None:
    """Hit and size of 8 MB cost no memory: reading and writing with cache spans needs what they need without."""
    big = "ä" * 4_000_000 if decode else b"x" * 8_000_000
    with traced.root("root"), redis.Redis.from_url(valkey_url, decode_responses=decode) as client:

        def write(prefix: str) -> None:
            client.set(f"{prefix}:big", big)

        def read(prefix: str) -> None:
            assert len(client.get(f"{prefix}:big")) == len(big)  # type: ignore[arg-type]

        for action in (write, read):
            action("shop")  # what is made once only
            plain, cached = peak_of(lambda: action("other")), peak_of(lambda: action("shop"))
            assert cached - plain < 100_000, (action.__name__, plain, cached)
        client.delete("shop:big", "other:big")
    sizes = {one[:4] for one in traced.caches() if one[0] != "cache.remove"}
    size = None if decode else len(big)  # a text's bytes are not known without encoding it
    assert sizes == {("cache.put", ("shop:big",), None, size), ("cache.get", ("shop:big",), True, size)}


def test_async_client(valkey_url: str, traced: Traced) -> None:
    """The asyncio client's commands are spans as well."""

    async def ping() -> None:
        async with redis.asyncio.Redis.from_url(valkey_url) as client:
            await client.ping()

    asyncio.run(ping())
    assert [span.name for span in traced.spans] == ["PING"]


@pytest.fixture(scope="module")
def cluster_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real cluster of one node, which has all slots."""
    folder: pathlib.Path = tmp_path_factory.mktemp("cluster")
    port = servers.free_port()
    server = subprocess.Popen(
        [servers._valkey_binary(), "--port", str(port), "--cluster-enabled", "yes", "--cluster-port",
         str(servers.free_port()), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--loglevel", "warning"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with redis.Redis(port=port) as client:
            for _ in range(200):
                try:
                    if client.ping():
                        break
                except redis.ConnectionError:
                    time.sleep(0.02)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def test_cluster(cluster_port: int, traced: Traced) -> None:
    """A cluster's commands and pipelines, sync and async, have the same spans and cache spans."""

    async def asynchronous() -> None:
        async with redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=cluster_port) as client:
            await client.get("shop:a")
            async with client.pipeline() as pipeline:
                await pipeline.set("shop:a", b"12").set("shop:b", b"345").execute()

    with traced.root("root"):
        client = redis.cluster.RedisCluster(host="127.0.0.1", port=cluster_port)
        client.set("shop:a", b"1")
        client.pipeline().get("shop:a").get("shop:b").execute()  # type: ignore[no-untyped-call]
        client.close()
        asyncio.run(asynchronous())
    assert traced.caches() == [
        ("cache.put", ("shop:a",), None, 1, ["SET"]),
        ("cache.get", ("shop:a", "shop:b"), False, 1, ["PIPELINE GET"]),
        ("cache.get", ("shop:a",), True, 1, ["GET"]),
        ("cache.put", ("shop:a", "shop:b"), None, 5, ["PIPELINE SET"]),
    ]
    assert "shop:" not in str([dict(span.attributes or {}) for span in traced.spans if span.name[:6] != "cache."])


def test_contribs_own_call_does_not_instrument_twice(valkey_url: str, traced: Traced) -> None:
    """An application that calls contrib's instrumentor as well still gets one span a command."""
    ContribInstrumentor().instrument()
    with redis.Redis.from_url(valkey_url) as client:
        client.ping()
    assert len(traced.spans) == 1
