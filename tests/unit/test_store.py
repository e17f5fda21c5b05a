"""Which store is chosen, and what only the one in memory does."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from otel_sentry import runtime, settings
from otel_sentry.business import store
from otel_sentry.business.memory import MAX_KEYS, Distinct, Memory
from otel_sentry_django import store as django_store


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    before = runtime.get()
    store._chosen = None
    yield
    runtime.set_current(before)
    store._chosen = None


def _with_setting(value: str | None) -> None:
    runtime.set_current(SimpleNamespace(settings=settings.load({}, store=value)))  # type: ignore[arg-type]


def test_the_setting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_SENTRY_STORE` names a Redis, or memory, whatever the application uses."""
    monkeypatch.setattr(store, "_applications_own", lambda: "redis://of-the-app:1/0")
    _with_setting("memory")
    assert type(store.get()) is Memory
    _with_setting("redis://127.0.0.1:1/5")
    chosen: Any = store.get()
    assert chosen._client.connection_pool.connection_kwargs["db"] == 5
    assert store.get() is chosen
    _with_setting(None)
    found: Any = store.get()
    assert found._client.connection_pool.connection_kwargs["host"] == "of-the-app"


def test_an_unreadable_url_shows_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    """A password with a slash that nobody has quoted: memory, and a line without it."""
    _with_setting("redis://u:hunter2/x@h:1/0")
    assert type(store.get()) is Memory
    said = capsys.readouterr().err
    assert "URL of the store" in said and "hunter2" not in said


def test_a_wrong_setting_is_said() -> None:
    """What is no store is one problem line, which shows no password."""
    (problem,) = [
        line for line in settings.load({"OTEL_SENTRY_STORE": "amqp://u:secret@h/"}).problems if "STORE" in line
    ]
    assert "redis://" in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("caches", "url"),
    [
        ({"default": {"BACKEND": "...RedisCache", "LOCATION": "redis://h:1/2"}}, "redis://h:1/2"),
        ({"default": {"LOCATION": ["redis://a", "redis://b"]}}, "redis://a"),
        ({"default": {"LOCATION": "unique"}, "second": {"LOCATION": "rediss://h"}}, "rediss://h"),
        ({"default": {"LOCATION": "redis://h:1/2", "OPTIONS": {"PASSWORD": "a b@"}}}, "redis://:a%20b%40@h:1/2"),
        ({"default": {"LOCATION": "127.0.0.1:11211"}}, None),
        ({}, None),
    ],
)
def test_the_redis_of_djangos_cache(monkeypatch: pytest.MonkeyPatch, caches: Any, url: str | None) -> None:
    """It is found in `CACHES`, without a connection."""
    monkeypatch.setattr(django_store, "settings", SimpleNamespace(configured=True, CACHES=caches))
    assert django_store.redis_url() == url


def test_the_redis_of_celery() -> None:
    """The broker's, else that of the results; nothing is asked for an app that does not exist."""
    code = """
        import otel_sentry_celery.store as store
        from celery import Celery
        print(store.redis_url())
        first = Celery(broker="amqp://h", backend="rediss://r/1?ssl_cert_reqs=CERT_NONE", set_as_current=False)
        print(store.redis_url())
        second = Celery(broker="redis://b/0;redis://c/0", set_as_current=False)
        print(store.redis_url())
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=env)
    assert done.stdout.split() == ["None", "rediss://r/1?ssl_cert_reqs=none", "redis://b/0"]


def test_memory_in_several_processes_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forked process without a Redis says so once; a lone one says nothing, nor one that asked for memory."""
    monkeypatch.setattr(store, "_applications_own", lambda: None)
    _with_setting(None)
    assert type(store.get()) is Memory
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(store, "_forked", True)
    _with_setting("memory")
    store.get()
    assert capsys.readouterr().err == ""
    _with_setting(None)
    store._chosen = None
    store.get()
    assert capsys.readouterr().err.count("OTEL_SENTRY_STORE=redis://") == 1


def test_memory_is_bounded() -> None:
    """A million keys make no more than the bounded number; the newest stay."""
    one = Memory()
    for number in range(100_000):
        one.add(f"count:{number}", 1, 1000.0)
    assert len(one._values) <= MAX_KEYS
    assert one.add("count:99999", 1, 1000.0) == 2


@pytest.mark.parametrize("count", [1, 256, 257, 2_000, 100_000])
def test_distinct_members_are_estimated(count: int) -> None:
    """Exact for a few hundred, then within 7 % (three standard errors)."""
    one = Distinct()
    for number in range(count):
        one.add(f"user-{number}")
        one.add("user-0")
    assert one.count() == (count if count <= Distinct.EXACT else pytest.approx(count, rel=0.07))
