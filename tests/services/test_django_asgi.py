"""Our Django middleware: the same span as contrib's, and what contrib's cannot do, under real servers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.services.test_django import SITE, get, probe, running, server_spans
from tests.support.servers import free_port

pytestmark = pytest.mark.services

PARITY = r"""
import asyncio, json, logging, sys
logging.disable(logging.CRITICAL)
import django
from django.conf import settings
settings.configure(ROOT_URLCONF="small.urls", ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None, USE_TZ=True, SECRET_KEY="x",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "small"], MIDDLEWARE=[],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
django.setup()
from django.test import AsyncClient, Client
from opentelemetry import propagate
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.django.middleware.otel_middleware import _DjangoMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otel_sentry_django import DjangoInstrumentor

OWN = ["otel_sentry_django.middleware.Middleware"]
CONTRIB = ["otel_sentry_django.middleware.ContribMiddleware"]
FAILING = ["small.views.failing_middleware"]
HEADERS = {"user-agent": "curl/8", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "x-one": "1"}

def run(middlewares, mode):
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = DjangoInstrumentor()
    settings.MIDDLEWARE = []
    instrumentor.instrument(tracer_provider=tracers, meter_provider=meters)
    settings.MIDDLEWARE = [*middlewares, *FAILING]
    from opentelemetry.instrumentation._semconv import _report_new, _report_old
    found = []
    client = Client(raise_request_exception=False)
    for path in ("/", "/items/3/?q=1", "/boom/", "/missing/", "/denied/", "/bad/", "/nowhere/3/"):
        client.get(path, headers=HEADERS)
        client.get(path, REQUEST_URI=path, SERVER_PORT="8000", HTTP_HOST="shop.example:8000")
    client.get("/items/3/", headers={"x-fail": "1"})
    client.generic("BREW", "/items/3/")

    async def asynchronous():
        client = AsyncClient(raise_request_exception=False)
        for path in ("/", "/items/3/?q=1", "/boom/", "/boom-async/", "/missing/", "/nowhere/3/"):
            await client.get(path, headers=HEADERS)
        await client.get("/items/3/", headers={"x-fail": "1"})
    asyncio.run(asynchronous())
    for span in exporter.get_finished_spans():
        found.append({
            "name": span.name, "kind": span.kind.name, "attributes": dict(sorted(span.attributes.items())),
            "status": [span.status.status_code.name, span.status.description],
            "events": [[event.name, event.attributes["exception.type"]] for event in span.events],
            "trace": span.context.trace_id, "parent": span.parent and span.parent.span_id,
        } | ({} if span.parent else {"trace": 0}))
    metrics = sorted(
        [metric.name, sorted(map(str, point.attributes.items())), getattr(point, "count", getattr(point, "value", 0))]
        for resource in reader.get_metrics_data().resource_metrics for scope in resource.scope_metrics
        for metric in scope.metrics for point in metric.data.data_points
    )
    instrumentor.uninstrument()
    return {"spans": found, "metrics": metrics}

from opentelemetry.instrumentation import _semconv
stability = _semconv._OpenTelemetrySemanticConventionStability
result = {}
for text in ("", "http", "http/dup"):
    import os
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = text
    stability._initialized = False
    stability._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING.clear()
    result[text] = {"own": run(OWN, text), "contrib": run(CONTRIB, text)}
print(json.dumps(result))
"""


def test_the_span_is_contribs_attribute_by_attribute() -> None:
    """In all three modes of the conventions, WSGI and ASGI, answered, failed, 404: name, kind, attributes, metrics."""
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*sys.path, str(SITE)]),
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "x-.*",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE": "content-.*",
        "OTEL_PYTHON_DJANGO_TRACED_REQUEST_ATTRS": "encoding,content_type",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARITY], env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    for mode, found in result.items():
        own, contrib = found["own"], found["contrib"]
        assert len(own["spans"]) == len(contrib["spans"]) == 23, mode
        for ours, theirs in zip(own["spans"], contrib["spans"], strict=True):
            assert ours == theirs, mode
        assert own["metrics"] == contrib["metrics"], mode


def test_a_streaming_response_is_one_span(receiver: Receiver) -> None:
    """Sync and async: the span lasts as long as the body, and what runs while it is sent is below it."""
    code = """if True:
        said = b"".join(client.get("/stream/").streaming_content).decode()
        async def go():
            response = await async_client.get("/stream-async/")
            return b"".join([part async for part in response.streaming_content]).decode()
        said += asyncio.run(go())
        said += str(len(b"".join(client.get("/file/").streaming_content)) > 100)
    """
    found = probe(receiver, code)
    assert found["said"] == "0\n1\n2\n" * 2 + "True"
    first, second, third = server_spans(found)
    assert [span["name"] for span in (first, second, third)] == ["GET stream/", "GET stream-async/", "GET file/"]
    for span in (first, second):
        assert span["seconds"] >= 0.15
        below = [one for one in found["spans"] if one["parent"] == span["span_id"]]
        assert [one["name"] for one in below] == ["cache.get"] * 3
    assert len({span["trace_id"] for span in found["spans"]}) == 3
    assert {"GET /stream/", "GET /stream-async/", "GET /file/"} <= {one["transaction"] for one in receiver.transactions}


def test_an_error_in_a_body_is_one_issue(receiver: Receiver) -> None:
    """Sync and async: the status says 200 all the same, the span says that it failed, and there is one issue."""
    code = """if True:
        def drain():
            list(client.get("/stream-boom/").streaming_content)
        async def go():
            [part async for part in (await async_client.get("/stream-boom-async/")).streaming_content]
        said = []
        for run in (drain, lambda: asyncio.run(go())):
            try:
                run()
            except ValueError as exc:
                said.append(str(exc))
    """
    found = probe(receiver, code)
    assert found["said"] == ["in the body", "in the async body"]
    spans = server_spans(found)
    assert [(span["status"], span["events"]) for span in spans] == [("ERROR", ["exception"])] * 2
    assert [span["attributes"]["http.response.status_code"] for span in spans] == [200, 200]
    assert {event["contexts"]["trace"]["span_id"] for event in receiver.events} == {one["span_id"] for one in spans}
    assert sorted(event["exception"]["values"][0]["value"] for event in receiver.events) == sorted(found["said"])


def test_contribs_middleware_on_request(receiver: Receiver) -> None:
    """`OTEL_SENTRY_DJANGO_MIDDLEWARE=contrib` goes back: the body is outside of the span again."""
    code = "b''.join(client.get('/stream/').streaming_content); client.get('/nowhere/')"
    first, _ = server_spans(probe(receiver, code, OTEL_SENTRY_DJANGO_MIDDLEWARE="contrib"))
    assert first["seconds"] < 0.15
    assert "GET /{unmatched}" in {item["transaction"] for item in receiver.transactions}


def test_the_url_is_looked_up_once(receiver: Receiver) -> None:
    """No second `resolve()`; a request that a middleware answers, or fails, gets its route by the only one."""
    setup = """if True:
        from django.urls import resolve
        from django.urls.resolvers import URLPattern
        client.get("/")  # loads the URLs
        asked = []
        original = URLPattern.resolve
        def counted(self, path):
            asked.append(path)
            return original(self, path)
        URLPattern.resolve = counted
    """
    code = """if True:
        said = []
        for path, headers in (("/items/3/", {}), ("/items/3/", {"X-Fail": "1"}), ("/nowhere/", {})):
            client.get(path, headers=headers)
            said.append(len(asked))
            asked.clear()
        resolve("/items/3/")
        said.append(len(asked))
    """
    found = probe(receiver, code, PROBE_SETUP=setup)
    routed, failed, unmatched, once = found["said"]
    assert routed == failed == once < unmatched
    assert [span["name"] for span in server_spans(found)] == ["GET items/<int:pk>/", "GET items/<int:pk>/", "GET"]
    assert [event["transaction"] for event in receiver.events] == ["GET /items/<int:pk>/"]


def hang_up(port: int, path: str, after: bytes = b"") -> None:
    """Ask for *path*, read until *after* was seen, and close the connection."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        seen = b""
        while after and after not in seen:
            seen += client.recv(4096)
        time.sleep(0.3 if not after else 0)


def by_name(receiver: Receiver, *names: str) -> dict[str, Any]:
    receiver.wait_for(lambda one: set(names) <= {item["transaction"] for item in one.transactions})
    return {item["transaction"]: item for item in receiver.transactions}


@pytest.mark.once
@pytest.mark.parametrize("launcher", [True, False])
def test_uvicorn(receiver: Receiver, launcher: bool) -> None:
    """ASGI for real: streams, errors, and clients that go away before and within the answer; none is lost."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "small.asgi:application", "--port", str(port), "--log-level", "error"]
    more = {} if launcher else {"SMALL_APPS": "otel_sentry_django"}
    with running(receiver, command, port, launcher=launcher, **more):
        assert get(port, "/stream-async/") == 200
        assert get(port, "/boom-async/") == 500
        assert get(port, "/nowhere/4/") == 404
        hang_up(port, "/wait/")
        hang_up(port, "/stream-async/?parts=1000", after=b"2\n\r\n")
        hang_up(port, "/stream-async/?parts=1000", after=b"2\n\r\n")
        found = by_name(receiver, "GET /boom-async/", "GET /{unmatched}", "GET /wait/", "GET /stream-async/")
        receiver.wait_for(lambda one: sum("stream" in item["transaction"] for item in one.transactions) == 3)
        receiver.wait_for(lambda one: one.events)
    streams = [item for item in receiver.transactions if item["transaction"] == "GET /stream-async/"]
    assert all(item["timestamp"] - item["start_timestamp"] >= 0.14 for item in streams)
    assert [len(item["spans"]) for item in streams][:1] == [3]
    assert [item["contexts"]["trace"]["status"] for item in streams] == ["ok"] * 3
    trace = found["GET /wait/"]["contexts"]["trace"]
    assert trace["status"] == "cancelled"
    assert "CancelledError" in json.dumps(trace["data"])
    (event,) = receiver.events
    assert event["exception"]["values"][0]["value"] == "in async view"


@pytest.mark.once
def test_gunicorn(receiver: Receiver) -> None:
    """WSGI for real: a stream is one transaction of its whole length, a file goes by the server's own way."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "small.wsgi", "--bind", f"127.0.0.1:{port}", "--log-level", "error"]
    with running(receiver, command, port):
        assert get(port, "/stream/") == 200
        assert get(port, "/file/") == 200
        found = by_name(receiver, "GET /stream/", "GET /file/")
    stream = found["GET /stream/"]
    assert stream["timestamp"] - stream["start_timestamp"] >= 0.15
    assert [span["op"] for span in stream["spans"]] == ["cache.get"] * 3
    assert {item["contexts"]["trace"]["trace_id"] for item in receiver.transactions if item is not stream}
