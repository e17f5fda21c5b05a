# ruff: noqa: E402 - what is instrumented comes after `configure`, as after the launcher
"""The real instrumentors at work, scenario by scenario; prints when each began and ended.

    python program.py DSN POSTGRES_URL VALKEY_URL UPSTREAM_URL

`tests/support/golden.py` runs it once in each semantic-convention mode, which is read when OpenTelemetry is imported.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import otel_sentry

DSN, POSTGRES, VALKEY, UPSTREAM = sys.argv[1:]
otel_sentry.configure(
    dsn=DSN,
    environment="golden",
    release="golden@1",
    service_name="golden",
    server_name="golden",
    traces_sample_rate=1.0,
    profiles_sample_rate=0.0,
    cache_prefixes=("shop:",),
    late_grace=2.0,
)

import celery
import django
import httpx
import psycopg
import psycopg2
import redis
import redis.asyncio
import requests
import urllib3
from celery.contrib.testing.worker import start_worker
from django.conf import settings
from django.core.cache import cache, caches
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path, re_path
from opentelemetry import trace

# Django: WSGI and ASGI


def post(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, title FROM post WHERE title = %s", ["a secret title"])
    return HttpResponse("post")


def cached(request: HttpRequest) -> HttpResponse:
    cache.delete_many(["page:1", "page:2"])
    cache.get("page:1")
    cache.set("page:1", "12345")
    cache.get("page:1")
    cache.get_many(["page:1", "page:2"])
    caches["redis"].set("page:1", b"123", timeout=60)
    caches["redis"].get("page:1")
    return HttpResponse("cached")


def outgoing(request: HttpRequest) -> HttpResponse:
    requests.get(f"{UPSTREAM}/ok?token=secret", timeout=5)
    return HttpResponse("outgoing")


def broken(request: HttpRequest) -> HttpResponse:
    raise ValueError("boom")


def missing(request: HttpRequest) -> HttpResponse:
    raise Http404("no such post")


def renamed(request: HttpRequest) -> HttpResponse:
    trace.get_current_span().update_name("checkout")
    return HttpResponse("renamed")


async def waits(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    await cache.aset("page:3", "12345")
    await cache.aget("page:3")
    return HttpResponse("waits")


urls: Any = types.ModuleType("golden_urls")
sys.modules["golden_urls"] = urls
urls.urlpatterns = [
    path("", post),
    path("posts/<int:pk>/", post),
    path("cached/", cached),
    path("outgoing/", outgoing),
    path("broken/", broken),
    path("missing/", missing),
    path("renamed/", renamed),
    path("async/<slug:name>/", waits),
    path(
        "api/", include([re_path(r"^v(?P<version>\d+)/(\w+)/$", lambda request, *args, **kwargs: HttpResponse("api"))])
    ),
]
parts = psycopg.conninfo.conninfo_to_dict(POSTGRES)
settings.configure(
    ROOT_URLCONF="golden_urls",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=[],
    LOGGING_CONFIG=None,
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts["dbname"],
            "USER": parts["user"],
            "HOST": parts["host"],
            "PORT": parts["port"],
            "CONN_MAX_AGE": None,
        }
    },
    CACHES={
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "redis": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": VALKEY},
    },
)
django.setup()
client, async_client = Client(raise_request_exception=False), AsyncClient(raise_request_exception=False)


def django_wsgi() -> None:
    for url in ("/", "/posts/3/?q=1", "/broken/", "/missing/", "/nowhere/4?token=secret", "/renamed/", "/api/v2/abc/"):
        client.get(url)


def django_asgi() -> None:
    async def run() -> None:
        for url in ("/posts/3/?q=1", "/async/abc/", "/broken/", "/nowhere/4"):
            await async_client.get(url)

    asyncio.run(run())


def django_caches() -> None:
    client.get("/cached/")


def django_outgoing() -> None:
    client.get("/outgoing/")


# Celery: a real worker on the memory broker, and eager

app = celery.Celery("golden", broker="memory://", backend="cache+memory://")
app.conf.worker_hijack_root_logger = False


@app.task(name="golden.add")
def add(one: int, two: int) -> int:
    return one + two


@app.task(name="golden.fail")
def fail() -> None:
    raise ValueError("boom")


@app.task(name="golden.again", bind=True, max_retries=1)
def again(self: Any) -> str:
    if not self.request.retries:
        raise self.retry(countdown=0)
    return "done"


def celery_eager() -> None:
    add.apply(args=(1, 2))


def celery_worker() -> None:
    with otel_sentry.span("publish"):
        results = [add.delay(1, 2), again.delay(), fail.delay()]
        app.send_task("golden.add", (3, 4)).get(timeout=20)
        for result in results:
            result.get(timeout=20, propagate=False)
    deadline = time.monotonic() + 20
    while open_spans() and time.monotonic() < deadline:  # the last run ends after its result is stored
        time.sleep(0.02)


def open_spans() -> int:
    from otel_sentry.trace.segment import table

    return len(table)


# Redis


def redis_commands() -> None:
    with otel_sentry.span("redis"), redis.Redis.from_url(VALKEY) as one:
        one.set("plain", "secret")
        one.get("plain")
        one.delete("shop:1", "shop:2")
        one.get("shop:1")
        one.set("shop:1", "12345")
        one.setex("shop:2", 60, b"123")
        one.get("shop:1")
        one.mget("shop:1", "shop:2", "other")
        one.delete("shop:1")
        with one.pipeline() as pipeline:
            pipeline.get("shop:1").incr("hits").execute()


def redis_async() -> None:
    async def run() -> None:
        async with redis.asyncio.Redis.from_url(VALKEY) as one:
            await one.set("shop:3", "12345")
            await one.get("shop:3")

    with otel_sentry.span("redis async"):
        asyncio.run(run())


# Postgres


def quietly(call: Callable[..., Any], *args: Any) -> None:
    try:
        call(*args)
    except (psycopg.Error, psycopg2.Error):
        pass


def use_cursor(connection: Any) -> None:
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SELECT id FROM post WHERE title = %s AND id > 7", ("secret",))
    quietly(cursor.execute, "INSERT INTO post (id, title) VALUES (1, 'secret')")
    quietly(cursor.execute, "SELECT nothing FROM nowhere")
    cursor.execute("SET statement_timeout = 30")
    quietly(cursor.execute, "SELECT pg_sleep(5)")
    connection.close()


def postgres_psycopg2() -> None:
    with otel_sentry.span("psycopg2"):
        use_cursor(psycopg2.connect(POSTGRES))


def postgres_psycopg() -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(POSTGRES) as connection:
            await connection.execute("SELECT %s::int", (1,))

    with otel_sentry.span("psycopg"):
        use_cursor(psycopg.connect(POSTGRES))
        asyncio.run(run())


# Outgoing HTTP

PATHS = ("/ok?token=secret&page=1", "/missing", "/busy")
NOBODY = "http://127.0.0.1:9/nobody"


def http_requests() -> None:
    with otel_sentry.span("requests"):
        for url in PATHS:
            requests.get(UPSTREAM + url, timeout=5)
        try:
            requests.post(NOBODY, timeout=5)
        except requests.ConnectionError:
            pass


def http_urllib3() -> None:
    with otel_sentry.span("urllib3"), urllib3.PoolManager(retries=False) as pool:
        for url in PATHS:
            pool.request("GET", UPSTREAM + url)
        try:
            pool.request("POST", NOBODY)
        except urllib3.exceptions.HTTPError:
            pass


def http_httpx() -> None:
    async def run() -> None:
        async with httpx.AsyncClient() as pool:
            await pool.get(UPSTREAM + "/ok")

    with otel_sentry.span("httpx"), httpx.Client() as pool:
        for url in PATHS:
            pool.get(UPSTREAM + url)
        try:
            pool.post(NOBODY)
        except httpx.ConnectError:
            pass
        asyncio.run(run())


SCENARIOS = [
    django_wsgi,
    django_asgi,
    django_caches,
    django_outgoing,
    celery_eager,
    celery_worker,
    redis_commands,
    redis_async,
    postgres_psycopg2,
    postgres_psycopg,
    http_requests,
    http_urllib3,
    http_httpx,
]


def main() -> None:
    client.get("/posts/1/")  # Django's connection, and what comes with the first request
    windows = {}
    with start_worker(app, perform_ping_check=False, pool="solo", loglevel="ERROR"):
        for scenario in SCENARIOS:
            time.sleep(0.01)
            began = time.time()
            scenario()
            windows[scenario.__name__] = (began, time.time())
    assert otel_sentry.flush(20)
    print(json.dumps(windows), flush=True)


faulthandler.dump_traceback_later(90, exit=True)  # says where it hangs
main()
