"""The business stores, in memory and in a real Valkey: the same operations, the same answers."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sentry.business import worker
from otel_sentry.business.memory import Memory
from otel_sentry.business.store import PREFIX, Store, Unavailable
from otel_sentry_redis.store import RedisStore

pytestmark = pytest.mark.services


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return Memory()
    return RedisStore(request.getfixturevalue("valkey_url"))


@pytest.fixture
def key() -> str:
    return f"t{uuid.uuid4().hex[:8]}:one"


def test_first_is_true_once_in_its_time(store: Store, key: str) -> None:
    """`first` is for one caller, until its time is over."""
    assert [store.first(key, 0.1), store.first(key, 0.1)] == [True, False]
    time.sleep(0.15)
    assert store.first(key, 10)


def test_counters(store: Store, key: str) -> None:
    """`add` counts and expires from its first use on; `take` resets."""
    assert [store.add(key, 2, 0.2), store.add(key, 3, 10)] == [2, 5]
    time.sleep(0.25)
    assert store.add(key, 1, 10) == 1
    assert [store.take(key), store.take(key)] == [1, 0]


def test_window(store: Store, key: str) -> None:
    """A sliding window counts events, or different members, up to its limit."""
    assert [store.window(key, 0.2, limit=3) for _ in range(5)] == [1, 2, 3, 3, 3]
    time.sleep(0.25)
    assert store.window(key, 0.2) == 1
    members = [store.window(f"{key}m", 10, member=name) for name in ("a", "b", "a", "c")]
    assert members == [1, 2, 2, 3]


def test_distinct(store: Store, key: str) -> None:
    """How many different members, about."""
    assert [store.distinct_add(key, name, 10) for name in ("a", "b", "a")] == [1, 2, 2]
    for number in range(600):
        count = store.distinct_add(key, f"user-{number}", 10)
    assert count == pytest.approx(602, rel=0.1)


def test_documents(store: Store, key: str) -> None:
    """Documents are written, changed, named, removed, and no reference to the caller's own remains."""
    value: dict[str, Any] = {"a": [1, 2.5, None, "é"]}
    store.save(key, value, 10)
    value["a"].append("later")
    assert store.load(key) == {"a": [1, 2.5, None, "é"]}
    assert store.change(key, lambda known: {**(known or {}), "b": 1}, 10) == {"a": [1, 2.5, None, "é"], "b": 1}
    assert store.names(key.partition(":")[0] + ":", 10) == [key]
    assert store.change(key, lambda known: None, 10) is None
    store.save(key, {}, 10)
    store.remove(key)
    assert store.load(key) is None
    assert store.names(key, 10) == []
    store.save(key, {}, 0.05)
    time.sleep(0.1)
    assert store.load(key) is None


def test_schedule(store: Store, key: str) -> None:
    """`due` gives what is due, in its order, once."""
    for member, at in (("late", 200.0), ("second", 20.0), ("first", 10.0)):
        store.schedule(key, member, at, 60)
    store.schedule(key, "never", 15.0, 60)
    store.unschedule(key, "never")
    assert store.due(key, 100.0, 10) == ["first", "second"]
    assert store.due(key, 100.0, 10) == []


def test_changes_of_several_processes_are_all_kept(valkey_url: str, key: str) -> None:
    """Ten writers change one document at once; nothing is lost, and each key has an end and our prefix."""

    def work(writer: int) -> None:
        own = RedisStore(valkey_url)
        for number in range(20):
            name = f"{writer}-{number}"
            while True:
                try:
                    own.change(key, lambda known: {**(known or {}), name: True}, 60)
                    break
                except Unavailable:  # the worker would make the call again
                    continue

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(RedisStore(valkey_url).load(key) or {}) == 200
    with redis.Redis.from_url(valkey_url) as client:
        assert 0 < client.ttl(PREFIX + key) <= 60
        assert -1 not in [client.pttl(name) for name in client.scan_iter(PREFIX + "*")]


def test_a_dead_and_a_hanging_server(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused or unanswered, an operation ends within a second, and the next one at once without asking."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hanging = RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        assert 0.4 < _time_of_failure(hanging) < 1.5
        assert _time_of_failure(hanging) < 0.05
        port = silent.getsockname()[1]
    dead = RedisStore(f"redis://127.0.0.1:{port}/0")
    assert _time_of_failure(dead) < 0.5
    assert _time_of_failure(dead) < 0.05


def _time_of_failure(store: Store) -> float:
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        store.first("x:y", 1)
    return time.monotonic() - begun


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    RedisInstrumentor().instrument(tracer_provider=provider)
    yield exporter
    RedisInstrumentor().uninstrument()


def test_our_own_commands_make_no_spans(valkey_url: str, key: str, spans: InMemorySpanExporter) -> None:
    """What the worker asks Redis is in nobody's trace, with contrib's instrumentor on."""
    store = RedisStore(valkey_url)
    worker.submit(store.save, key, {"a": 1}, 10)
    worker.submit(store.change, key, lambda known: known, 10)
    worker.submit(store.window, f"{key}w", 10)
    assert worker.flush(5.0)
    assert store.load(key) == {"a": 1}
    assert [span.name for span in spans.get_finished_spans()] == ["GET"]  # the one of this thread
