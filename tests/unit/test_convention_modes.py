"""Legacy, stable and duplicated semantic conventions of real spans give one and the same description."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from otel_sentry.convention import describe

Case = tuple[str, str, SpanKind, dict[str, Any], dict[str, Any]]

#: What contrib's instrumentations emitted in a run: library, name, kind, legacy and stable attributes.
CASES: dict[str, Case] = {
    "django under gunicorn": (
        "django",
        "GET hello/",
        SpanKind.SERVER,
        {
            "http.method": "GET",
            "http.server_name": "127.0.0.1",
            "http.scheme": "http",
            "net.host.name": "127.0.0.1:58463",
            "http.host": "127.0.0.1:58463",
            "net.host.port": 58463,
            "http.target": "/hello/?q=1",
            "net.peer.ip": "127.0.0.1",
            "net.peer.port": 40000,
            "http.user_agent": "curl/8",
            "http.flavor": "1.1",
            "http.route": "hello/",
            "http.status_code": 500,
        },
        {
            "http.request.method": "GET",
            "url.scheme": "http",
            "server.address": "127.0.0.1:58463",
            "server.port": 58463,
            "url.path": "/hello/",
            "url.query": "q=1",
            "client.address": "127.0.0.1",
            "client.port": 40000,
            "user_agent.original": "curl/8",
            "network.protocol.version": "1.1",
            "http.route": "hello/",
            "http.response.status_code": 500,
            "error.type": "500",
        },
    ),
    "psycopg": (
        "psycopg",
        "SELECT",
        SpanKind.CLIENT,
        {
            "db.system": "postgresql",
            "db.name": "shop",
            "db.statement": "SELECT * FROM post WHERE id = %s",
            "db.user": "shop",
            "net.peer.name": "localhost",
            "net.peer.port": 5432,
        },
        {
            "db.system.name": "postgresql",
            "db.namespace": "shop",
            "db.query.text": "SELECT * FROM post WHERE id = %s",
            "server.address": "localhost",
            "server.port": 5432,
        },
    ),
    "redis": (
        "redis",
        "SET",
        SpanKind.CLIENT,
        {
            "db.statement": "SET ? ? ? ?",
            "db.redis.args_length": 5,
            "db.system": "redis",
            "db.redis.database_index": 2,
            "net.peer.name": "localhost",
            "net.peer.port": 6379,
            "net.transport": "ip_tcp",
        },
        {
            "db.query.text": "SET ? ? ? ?",
            "db.redis.args_length": 5,
            "db.system.name": "redis",
            "server.address": "localhost",
            "server.port": 6379,
            "network.transport": "tcp",
        },
    ),
    "requests": (
        "requests",
        "GET",
        SpanKind.CLIENT,
        {"http.method": "GET", "http.url": "http://api.example:8080/v1?q=1", "http.status_code": 404},
        {
            "http.request.method": "GET",
            "url.full": "http://api.example:8080/v1?q=1",
            "server.address": "api.example",
            "server.port": 8080,
            "network.peer.address": "api.example",
            "network.peer.port": 8080,
            "http.response.status_code": 404,
            "error.type": "404",
        },
    ),
    "celery (has no opt-in)": (
        "celery",
        "apply_async/shop.add",
        SpanKind.PRODUCER,
        {
            "celery.action": "apply_async",
            "messaging.message.id": "m",
            "celery.task_name": "shop.add",
            "messaging.destination_kind": "queue",
            "messaging.destination": "celery",
        },
        {
            "celery.task_name": "shop.add",
            "messaging.message.id": "m",
            "messaging.operation.type": "publish",
            "messaging.destination.name": "celery",
            "messaging.system": "celery",
        },
    ),
    "url in parts": (
        "httpx",
        "GET",
        SpanKind.CLIENT,
        {
            "http.method": "GET",
            "http.scheme": "https",
            "net.peer.name": "api",
            "net.peer.port": 444,
            "http.target": "/a",
        },
        {
            "http.request.method": "GET",
            "url.scheme": "https",
            "server.address": "api",
            "server.port": "444",
            "url.path": "/a",
        },
    ),
}


def _span(case: Case, attributes: dict[str, Any]) -> ReadableSpan:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    library, name, kind = case[:3]
    tracer = provider.get_tracer(f"opentelemetry.instrumentation.{library}", "1")
    tracer.start_span(name, kind=kind, attributes=attributes).end()
    return exporter.get_finished_spans()[0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("style", ["otel", "sentry"])
def test_modes_agree(case: str, style: str) -> None:
    """2.1: a real span says the same in all three modes, data included, with one key per meaning."""
    legacy, stable = CASES[case][3:]
    modes = (legacy, stable, {**legacy, **stable}, {**stable, **legacy})
    found = [describe(_span(CASES[case], mode), is_root=True, style=style) for mode in modes]
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert found[3] == found[0]


def test_django_data() -> None:
    """2.1: stable names, `server.address` without port, numbers as numbers."""
    case = CASES["django under gunicorn"]
    assert describe(_span(case, case[3]), is_root=True).data == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": 58463,
        "url.path": "/hello/",
        "url.query": "q=1",
        "client.address": "127.0.0.1",
        "client.port": 40000,
        "user_agent.original": "curl/8",
        "network.protocol.version": "1.1",
        "http.route": "hello/",
        "http.response.status_code": 500,
        "sentry.kind": "server",
    }


def test_db_data() -> None:
    """2.3: the Queries module reads `db.system` and `db.name`; the text is not sent twice."""
    case = CASES["psycopg"]
    assert describe(_span(case, case[4]), is_root=False).data == {
        "db.system": "postgresql",
        "db.name": "shop",
        "db.operation.name": "SELECT",
        "server.address": "localhost",
        "server.port": 5432,
        "sentry.kind": "client",
    }


def test_request_without_answer_names_its_exception() -> None:
    """2.1: `error.type` of a failed connection, which only stable conventions set, is in both modes."""
    found = []
    for attributes in CASES["requests"][3:]:
        plain = {key: value for key, value in attributes.items() if "status" not in key and key != "error.type"}
        if "http.request.method" in plain:
            plain["error.type"] = "ConnectionError"
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        span = provider.get_tracer("t").start_span("GET", kind=SpanKind.CLIENT, attributes=plain)
        span.set_status(StatusCode.ERROR, "ConnectionError: refused")
        span.end()
        found.append(describe(exporter.get_finished_spans()[0], is_root=False))
    assert found[0] == found[1]
    assert found[0].data["error.type"] == "ConnectionError"


def test_stable_wins() -> None:
    """2.1: where both conventions are there and differ, the stable one is believed."""
    case = CASES["requests"]
    span = _span(case, {"http.method": "GET", "http.status_code": 200, **case[4]})
    assert describe(span, is_root=False).data["http.response.status_code"] == 404


def test_live_span() -> None:
    """A span that has not ended (the sampling context needs its name) is described like a finished one."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("opentelemetry.instrumentation.django")
    span = tracer.start_span("GET x/", kind=SpanKind.SERVER, attributes={"http.request.method": "GET"})
    assert describe(span, is_root=True).name == "GET /x/"
    span.set_attribute("http.route", "y/<int:pk>/")
    assert describe(span, is_root=True).name == "GET /y/<int:pk>/"
    span.end()


def test_bytes_statement() -> None:
    """psycopg2's execute_values gives bytes with the values in them: text, without the values."""
    found = describe(
        _span(CASES["psycopg"], {"db.system": "postgresql", "db.statement": b"insert into t values (1),(2)"}),
        is_root=False,
    )
    assert found.description == "insert into t values (?)"
    assert found.data["db.operation.name"] == "INSERT"
