"""contrib's own instrumentors, run in each semantic-convention mode, give one and the same Sentry meaning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = r"""
import json, warnings
warnings.simplefilter("ignore")
import django
from celery import Celery
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import Http404, HttpResponse
from django.urls import include, path, re_path
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from wsgiref.util import setup_testing_defaults
import requests
from otel_sentry.convention import describe, describe_start

def fine(request, *args, **kwargs):
    return HttpResponse("x")
def broken(request):
    raise ValueError("boom")
def missing(request):
    raise Http404("no")
def outgoing(request):
    try:
        requests.get("http://127.0.0.1:9/x?page=1", timeout=1)
    except requests.ConnectionError:
        pass
    return HttpResponse("x")

urlpatterns = [
    path("", fine, name="home"),
    path("posts/<int:pk>/", fine), path("broken/", broken), path("missing/", missing),
    path("outgoing/", outgoing), path("api/", include([re_path(r"^v(?P<version>\d+)/(\w+)/$", fine)])),
]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[], LOGGING_CONFIG=None)
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
for instrumentor in (DjangoInstrumentor, RequestsInstrumentor, CeleryInstrumentor):
    instrumentor().instrument()
django.setup()

handler = WSGIHandler()
for url in ("/", "/posts/3/?a=1", "/broken/", "/missing/", "/nowhere/x?a=1", "/outgoing/", "/api/v2/abc/"):
    environ = {}
    setup_testing_defaults(environ)
    location, _, query = url.partition("?")
    environ.update(PATH_INFO=location, QUERY_STRING=query, RAW_URI=url, REQUEST_URI=url, SERVER_PORT="8000",
                   HTTP_HOST="shop:8000", REMOTE_ADDR="192.0.2.1", REMOTE_PORT="5")
    list(handler(environ, lambda *args: None))

app = Celery("shop", broker="memory://", backend="cache+memory://")
@app.task(name="shop.add")
def add(number):
    return number
@app.task(name="shop.again", bind=True, max_retries=1)
def again(self):
    raise self.retry(countdown=0, exc=ValueError("again"))
add.apply_async(args=(1,))
add.apply(args=(1,))
again.apply()

out = []
for span in exporter.get_finished_spans():
    found = describe(span, is_root=span.parent is None)
    if span.parent is None and "unmatched" not in found.name:  # nobody knows that at the start
        assert describe_start(span.name, span.kind, span.attributes)[0] == found.name
    for key in ("messaging.message.id", "celery.hostname"):
        found.data.pop(key, None)
    out.append(found)
print(json.dumps(out))
"""


def _run(mode: str) -> list[list[Any]]:
    environ = {**os.environ, "OTEL_SEMCONV_STABILITY_OPT_IN": mode, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def stable() -> list[list[Any]]:
    for name in ("django", "celery", "requests"):
        pytest.importorskip(f"opentelemetry.instrumentation.{name}")
    return _run("http,database")


@pytest.mark.parametrize("mode", ["", "http/dup,database/dup"])
def test_modes_agree(stable: list[list[Any]], mode: str) -> None:
    """2.1: Django, requests and Celery say the same in legacy, stable and duplicated conventions."""
    assert _run(mode) == stable


def test_meanings(stable: list[list[Any]]) -> None:
    """2.3: transaction names, ops and statuses of real spans."""
    assert [(span[0], span[2], span[3], span[5]) for span in stable] == [
        ("http.server", "GET /", "route", "ok"),
        ("http.server", "GET /posts/<int:pk>/", "route", "ok"),
        ("http.server", "GET /broken/", "route", "internal_error"),
        ("http.server", "GET /missing/", "route", "not_found"),
        ("http.server", "GET /{unmatched}", "route", "not_found"),
        ("http.client", "GET http://127.0.0.1:9/x", "url", "internal_error"),
        ("http.server", "GET /outgoing/", "route", "ok"),
        ("http.server", r"GET /api/v(?P<version>\d+)/(\w+)/", "route", "ok"),
        ("queue.publish", "shop.add", "task", "ok"),
        ("queue.process", "shop.add", "task", "ok"),
        ("queue.process", "shop.again", "task", "aborted"),
        ("queue.process", "shop.again", "task", "internal_error"),
    ]
