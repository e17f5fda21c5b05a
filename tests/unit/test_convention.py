"""The tables of otel_sentry.convention, case by case; the numbers are the specification's sections."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from otel_sentry.convention import Description, describe, describe_start
from otel_sentry.convention.naming import django_route
from otel_sentry.convention.origin import origin_of
from otel_sentry.convention.status import from_grpc, from_http

SERVER, CLIENT, INTERNAL = SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL
PRODUCER, CONSUMER = SpanKind.PRODUCER, SpanKind.CONSUMER


def span(
    name: str = "",
    kind: SpanKind = INTERNAL,
    attributes: dict[str, Any] | None = None,
    library: str = "",
    error: str | None = None,
    events: tuple[Any, ...] = (),
) -> SimpleNamespace:
    """Anything with a span's properties will do."""
    scope = f"opentelemetry.instrumentation.{library}" if library else "shop"
    code = StatusCode.UNSET if error is None else StatusCode.ERROR
    return SimpleNamespace(
        name=name,
        kind=kind,
        attributes=attributes,
        status=SimpleNamespace(status_code=code, description=error or None),
        instrumentation_scope=SimpleNamespace(name=scope, version="1"),
        events=events,
    )


def described(*args: Any, is_root: bool = True, style: str = "otel", **kwargs: Any) -> Description:
    return describe(span(*args, **kwargs), is_root=is_root, style=style)


def get(**more: Any) -> dict[str, Any]:
    return {"http.request.method": "GET", **{key.replace("__", "."): value for key, value in more.items()}}


# 2.3: family, span, expected (op, description, name, source)
MEANINGS = {
    "2.3 http.server with route": (
        ("GET users/<int:pk>/", SERVER, get(http__route="users/<int:pk>/", url__path="/users/1/"), "django"),
        ("http.server", "GET /users/<int:pk>/", "GET /users/<int:pk>/", "route"),
    ),
    "2.3 http.server without route, path /": (
        ("GET home", SERVER, get(url__path="/"), "django"),
        ("http.server", "GET /", "GET /", "route"),
    ),
    "2.3 http.server without route: raw path, no query": (
        ("GET", SERVER, get(url__path="/nowhere", url__query="token=1"), "django"),
        ("http.server", "GET /nowhere", "GET /nowhere", "url"),
    ),
    "2.3 http.server, what no URL matches: one bucket": (
        ("GET", SERVER, get(url__path="/nowhere/7", http__response__status_code=404), "django"),
        ("http.server", "GET /{unmatched}", "GET /{unmatched}", "route"),
    ),
    "2.3 http.server, query inside the legacy target is stripped": (
        ("GET", SERVER, {"http.method": "GET", "http.target": "/nowhere?token=1#f"}, "django"),
        ("http.server", "GET /nowhere", "GET /nowhere", "url"),
    ),
    "2.3 http.server, nothing usable": (
        ("HTTP", SERVER, get(), "wsgi"),
        ("http.server", "HTTP", "HTTP", "custom"),
    ),
    "2.7 django: the route is only in the name when a middleware raises": (
        ("GET item/<int:pk>/", SERVER, get(url__path="/item/3/"), "django"),
        ("http.server", "GET /item/<int:pk>/", "GET /item/<int:pk>/", "route"),
    ),
    "2.3 wsgi: the raw path in the name is no route": (
        ("GET /users/1", SERVER, get(url__path="/users/1"), "wsgi"),
        ("http.server", "GET /users/1", "GET /users/1", "url"),
    ),
    "2.2 a root INTERNAL span of a web scope is a request": (
        ("GET x/", INTERNAL, get(http__route="x/"), "django"),
        ("http.server", "GET /x/", "GET /x/", "route"),
    ),
    "2.3 http.client: no user information, query or fragment": (
        ("GET", CLIENT, get(url__full="https://u:p@api.example:8443/v1/x?key=1#f"), "requests"),
        ("http.client", "GET https://api.example:8443/v1/x", "GET https://api.example:8443/v1/x", "url"),
    ),
    "2.3 http.client with template": (
        ("GET", CLIENT, get(url__full="https://api/u/1", url__template="/u/{id}"), "httpx"),
        ("http.client", "GET /u/{id}", "GET /u/{id}", "route"),
    ),
    "2.3 http.client, prefetch": (
        ("GET", CLIENT, get(url__full="https://api/", sentry__http__prefetch=True), "httpx"),
        ("http.client.prefetch", "GET https://api/", "GET https://api/", "url"),
    ),
    "2.3 db: the text, without literals and comments": (
        (
            "SELECT",
            CLIENT,
            {
                "db.system": "postgresql",
                "db.statement": "SELECT * FROM t WHERE a = 'x' /*traceparent='00-1'*/",
            },
            "psycopg2",
        ),
        ("db", "SELECT * FROM t WHERE a = ?", "SELECT * FROM t WHERE a = ?", "task"),
    ),
    "2.3 db without text: the name": (
        ("shop", CLIENT, {"db.system": "postgresql"}, "psycopg2"),
        ("db", "shop", "shop", "task"),
    ),
    "2.2 db before http: elasticsearch": (
        ("search", CLIENT, get(db__system="elasticsearch", url__full="http://es:9200/x"), "elasticsearch"),
        ("db", "search", "search", "task"),
    ),
    "2.2 db before rpc: dynamodb": (
        ("DynamoDB.GetItem", CLIENT, {"db.system": "dynamodb", "rpc.system": "aws-api"}, "botocore"),
        ("db", "DynamoDB.GetItem", "DynamoDB.GetItem", "task"),
    ),
    "2.3 redis as store": (
        ("GET", CLIENT, {"db.system": "redis", "db.statement": "GET ?"}, "redis"),
        ("db.redis", "GET ?", "GET ?", "task"),
    ),
    "2.3 redis as cache": (
        (
            "GET",
            CLIENT,
            {"db.system": "redis", "db.statement": "GET ?", "cache.key": ("a", "b"), "cache.hit": True},
            "redis",
        ),
        ("cache.get", "a, b", "a, b", "task"),
    ),
    "2.7 celery run, attributes there": (
        ("run/shop.add", CONSUMER, {"celery.action": "run", "celery.task_name": "shop.add"}, "celery"),
        ("queue.process", "shop.add", "shop.add", "task"),
    ),
    "2.7 celery run, name only": (
        ("run/shop.add", CONSUMER, None, "celery"),
        ("queue.process", "shop.add", "shop.add", "task"),
    ),
    "2.7 celery publish": (
        ("apply_async/shop.add", PRODUCER, {"celery.action": "apply_async"}, "celery"),
        ("queue.publish", "shop.add", "shop.add", "task"),
    ),
    "2.3 queue by operation type": (
        ("x", CLIENT, {"messaging.system": "aws_sqs", "messaging.operation.type": "receive"}, "boto3sqs"),
        ("queue.receive", "x", "x", "task"),
    ),
    "2.2 queue before http: SQS over http": (
        (
            "publish",
            CLIENT,
            get(messaging__system="aws_sqs", messaging__operation="publish", messaging__destination="q"),
            "boto3sqs",
        ),
        ("queue.publish", "q", "q", "task"),
    ),
    "2.3 queue by kind alone": (
        ("topic send", PRODUCER, {"messaging.destination.name": "topic"}, "kafka"),
        ("queue.publish", "topic", "topic", "task"),
    ),
    "2.3 rpc": (
        ("a/b", SERVER, {"rpc.system": "grpc", "rpc.service": "pkg.Svc", "rpc.method": "Do"}, "grpc"),
        ("rpc", "pkg.Svc/Do", "pkg.Svc/Do", "route"),
    ),
    "2.3 faas": (
        (
            "h",
            SERVER,
            {"faas.trigger": "http", "faas.name": "fn", "cloud.platform": "aws_lambda"},
            "aws_lambda",
        ),
        ("function.aws", "fn", "fn", "route"),
    ),
    "2.3 gen_ai": (
        (
            "chat",
            CLIENT,
            {"gen_ai.system": "openai", "gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
            "openai",
        ),
        ("gen_ai.chat", "chat m", "chat m", "custom"),
    ),
    "2.3 rpc, newest conventions: the method is fully qualified": (
        ("x", CLIENT, {"rpc.system.name": "grpc", "rpc.method": "pkg.Svc/Do"}, "grpc"),
        ("rpc", "pkg.Svc/Do", "pkg.Svc/Do", "route"),
    ),
    "2.3 faas, told by the scope": (
        ("h", SERVER, {"faas.trigger": "pubsub"}, "aws_lambda"),
        ("function.aws", "h", "h", "route"),
    ),
    "2.3 faas, cloud unknown: the trigger": (
        ("h", SERVER, {"faas.trigger": "timer"}, "mine"),
        ("timer", "h", "h", "route"),
    ),
    "2.3 gen_ai: agent, newest conventions": (
        (
            "x",
            INTERNAL,
            {"gen_ai.provider.name": "p", "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"},
        ),
        ("gen_ai.invoke_agent", "invoke_agent a", "invoke_agent a", "custom"),
    ),
    "2.2 mcp before gen_ai": (
        ("x", SERVER, {"mcp.method.name": "tools/call", "gen_ai.system": "mcp", "gen_ai.tool.name": "weather"}),
        ("mcp.server", "tools/call weather", "tools/call weather", "route"),
    ),
    "2.3 graphql": (
        ("q", INTERNAL, {"graphql.operation.type": "query", "graphql.operation.name": "Posts"}),
        ("graphql.query", "query Posts", "query Posts", "route"),
    ),
    "2.3 graphql on http": (
        ("POST", SERVER, get(url__path="/graphql", http__route="graphql", sentry__graphql__operation="query Posts")),
        ("http.server", "GET /graphql (query Posts)", "GET /graphql (query Posts)", "route"),
    ),
    "2.3 graphql on http, more than five": (
        ("POST", SERVER, get(http__route="g", sentry__graphql__operation=tuple("abcdefg"))),
        ("http.server", "GET /g (a, b, c, d, e, +2)", "GET /g (a, b, c, d, e, +2)", "route"),
    ),
    "2.7 S3": (
        ("S3.PutObject", CLIENT, {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "PutObject"}, "botocore"),
        ("object.put", "S3.PutObject", "S3.PutObject", "custom"),
    ),
    "2.7 S3, no object": (
        (
            "S3.ListBuckets",
            CLIENT,
            {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "ListBuckets"},
            "botocore",
        ),
        ("http.client", "S3.ListBuckets", "S3.ListBuckets", "custom"),
    ),
    "2.7 SQS: the operation is in rpc.method only": (
        (
            "SQS.ReceiveMessage",
            CLIENT,
            {
                "rpc.system": "aws-api",
                "rpc.method": "ReceiveMessage",
                "messaging.system": "aws.sqs",
                "messaging.destination": "q",
            },
            "botocore",
        ),
        ("queue.receive", "q", "q", "task"),
    ),
    "2.7 kafka: polling receives": (
        ("orders receive", CONSUMER, {"messaging.system": "kafka", "messaging.destination": "orders"}, "kafka"),
        ("queue.receive", "orders", "orders", "task"),
    ),
    "2.7 kafka: processing, newest conventions": (
        ("process orders", CONSUMER, {"messaging.system": "kafka", "messaging.destination.name": "orders"}, "aiokafka"),
        ("queue.process", "orders", "orders", "task"),
    ),
    "2.3 queue settle": (
        ("q ack", CONSUMER, {"messaging.system": "rabbitmq", "messaging.operation.name": "ack"}, "aio_pika"),
        ("queue.settle", "q ack", "q ack", "task"),
    ),
    "2.3 db without text: the summary": (
        ("shop", CLIENT, {"db.system.name": "postgresql", "db.query.summary": "SELECT post"}, "asyncpg"),
        ("db", "SELECT post", "SELECT post", "task"),
    ),
    "2.3 cache, ours": (
        ("cache.remove", INTERNAL, {"cache.key": ("a",)}, "redis"),
        ("cache.remove", "a", "a", "task"),
    ),
    "2.2 cache: the user's own op": (
        ("lookup", INTERNAL, {"sentry.op": "cache.get", "cache.key": ["bob@example.com"]}),
        ("cache.get", "[Filtered]", "[Filtered]", "task"),
    ),
    "2.2 known scope without attributes": (
        ("jinja2.render", INTERNAL, None, "jinja2"),
        ("template.render", "jinja2.render", "jinja2.render", "custom"),
    ),
    "2.3 fallback": (("my work", INTERNAL, None), (None, "my work", "my work", "custom")),
}


@pytest.mark.parametrize("case", MEANINGS)
def test_meaning(case: str) -> None:
    """Op, description, transaction name and source are those of the specification's table."""
    arguments, expected = MEANINGS[case]
    assert described(*arguments)[:4] == expected


def test_graphql_document_has_no_literals() -> None:
    """2.3: what people typed is a literal of the document."""
    attributes = {"graphql.operation.type": "query", "graphql.document": 'query { user(mail: "a\\"b", id: 17) { id } }'}
    assert described("q", INTERNAL, attributes).data["graphql.document"] == "query { user(mail: ?, id: ?) { id } }"


def test_nested_web_span_is_middleware() -> None:
    """2.3: Django below a WSGI span is no second http.server."""
    found = described("GET x/", INTERNAL, get(http__route="x/"), "django", is_root=False)
    assert (found.op, found.description) == ("middleware", "GET x/")


def test_manual_internal_http_span_keeps_its_name() -> None:
    """2.3: a span that the user named is never renamed."""
    found = described("call partner", INTERNAL, get(url__full="https://p/"), is_root=False)
    assert (found.op, found.description, found.source) == ("http", "call partner", "custom")


def test_everything_may_be_none() -> None:
    """A span without attributes, scope, status, events or name is described all the same."""
    bare = SimpleNamespace(name=None, kind=None, attributes=None, status=None, instrumentation_scope=None, events=None)
    assert describe(bare, is_root=True) == Description(None, "", "", "custom", "manual", "ok", {})


# 2.2, step 0
@pytest.mark.parametrize(
    ("attributes", "field", "expected"),
    [
        ({"sentry.op": "http.mine"}, "op", "http.mine"),
        ({"sentry.description": "d"}, "description", "d"),
        ({"sentry.name": "n"}, "name", "n"),
        ({"sentry.custom_span_name": "n"}, "name", "n"),
        ({"sentry.name": "n"}, "source", "custom"),
        ({"sentry.name": "n", "sentry.source": "view"}, "source", "view"),
        ({"sentry.segment.name.source": "component"}, "source", "component"),
        ({"sentry.source": "nonsense"}, "source", "route"),
        ({"sentry.origin": "auto.mine"}, "origin", "auto.mine"),
        ({"sentry.status": "aborted"}, "status", "aborted"),
        ({"sentry.status": "nonsense"}, "status", "ok"),
    ],
)
def test_explicit_override(attributes: dict[str, str], field: str, expected: str) -> None:
    """2.2 step 0: `sentry.*` attributes override one field each, and are no data."""
    found = described("GET x/", SERVER, get(http__route="x/", **attributes), "django")
    assert getattr(found, field) == expected
    assert not set(attributes) & set(found.data)
    untouched = described("GET x/", SERVER, get(http__route="x/"), "django")
    if field == "op":
        assert found[1:] == untouched[1:]


# 2.4
@pytest.mark.parametrize(
    ("code", "status"),
    [
        (200, "ok"),
        (302, "ok"),
        (400, "invalid_argument"),
        (401, "unauthenticated"),
        (403, "permission_denied"),
        (404, "not_found"),
        (409, "already_exists"),
        (413, "failed_precondition"),
        (418, "invalid_argument"),
        (429, "resource_exhausted"),
        (499, "cancelled"),
        (500, "internal_error"),
        (501, "unimplemented"),
        (502, "internal_error"),
        (503, "unavailable"),
        (504, "deadline_exceeded"),
        (600, "unknown_error"),
    ],
)
def test_http_status(code: int, status: str) -> None:
    """2.4: sentry-python's HTTP table, whether the code is a number or its digits."""
    assert from_http(code) == status
    for value in (code, str(code)):
        assert described("GET", CLIENT, get(**{"http.response.status_code": value}), "requests").status == status
        assert described("GET", CLIENT, get(**{"http.status_code": value}), "requests").status == status


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0, "ok"),
        ("0", "ok"),
        ("OK", "ok"),
        (1, "cancelled"),
        ("14", "unavailable"),
        ("UNAVAILABLE", "unavailable"),
        (16, "unauthenticated"),
        (99, "unknown_error"),
        ("x", "unknown_error"),
        (None, None),
    ],
)
def test_grpc_status(code: Any, status: str | None) -> None:
    """2.4: gRPC codes come as int (Python), digits or names; JavaScript's table takes "0" for unknown."""
    assert from_grpc(code) == status


def _exception(kind: str) -> SimpleNamespace:
    return SimpleNamespace(name="exception", attributes={"exception.type": kind})


@pytest.mark.parametrize(
    ("attributes", "error", "events", "status"),
    [
        (None, None, (), "ok"),
        (None, "", (), "internal_error"),
        (None, "ValueError: x", (), "internal_error"),
        (None, "resource_exhausted", (), "resource_exhausted"),
        (None, "ok", (), "internal_error"),
        (None, "x", (_exception("TimeoutError"),), "deadline_exceeded"),
        (None, "x", (_exception("asyncio.exceptions.CancelledError"),), "cancelled"),
        (None, "x", (_exception("psycopg.errors.QueryCanceled"),), "cancelled"),
        (None, "x", (_exception("PermissionError"),), "permission_denied"),
        (None, "x", (_exception("NotImplementedError"),), "unimplemented"),
        ({"http.response.status_code": 404}, "Http404", (), "not_found"),
        ({"http.response.status_code": 200}, "ValueError: while streaming", (), "internal_error"),
        ({"http.response.status_code": 500}, None, (), "internal_error"),
        ({"rpc.grpc.status_code": 4}, "", (), "deadline_exceeded"),
        ({"http.response.status_code": 404, "rpc.grpc.status_code": 0}, None, (), "not_found"),
        ({"http.status_code": "503"}, None, (), "unavailable"),
        ({"rpc.response.status_code": "NOT_FOUND"}, None, (), "not_found"),
        ({"rpc.grpc.status_code": 0}, "broken pipe", (), "internal_error"),
        ({"db.response.status_code": "57014"}, "x", (), "cancelled"),
        ({"db.response.status_code": "23505"}, "x", (), "already_exists"),
        ({"db.response.status_code": "23503"}, "x", (), "failed_precondition"),
        ({"db.response.status_code": "40001"}, "x", (), "aborted"),
        ({"db.response.status_code": "08006"}, "x", (), "unavailable"),
        ({"db.response.status_code": "1062"}, "x", (), "internal_error"),
        ({"db.response.status_code": "57014"}, None, (), "ok"),
        (None, "x", (_exception("psycopg2.errors.UniqueViolation"),), "already_exists"),
        (None, "x", (_exception("httpx.ReadTimeout"),), "deadline_exceeded"),
        ({"error.type": "requests.exceptions.ConnectTimeout"}, "x", (), "deadline_exceeded"),
        ({"celery.state": "RETRY"}, "Retry()", (), "aborted"),
        ({"celery.state": "IGNORED"}, None, (), "aborted"),
        ({"celery.state": "FAILURE"}, "x", (), "internal_error"),
    ],
)
def test_status(attributes: Any, error: str | None, events: Any, status: str) -> None:
    """2.4: explicit, OTel's own, HTTP, gRPC, description, exception class; an error never becomes ok."""
    assert described("x", CLIENT, attributes, "", error, events).status == status


def test_error_text_is_kept() -> None:
    """2.4: the free text of an error stays as `sentry.status.message`."""
    assert described("x", INTERNAL, None, "", "boom").data == {"sentry.status.message": "boom"}


# 2.5
@pytest.mark.parametrize(
    ("scope", "origin"),
    [
        ("opentelemetry.instrumentation.django", "auto.http.otel.django"),
        ("opentelemetry.instrumentation.aiohttp_client", "auto.http.otel.aiohttp_client"),
        ("opentelemetry.instrumentation.psycopg2", "auto.db.otel.psycopg2"),
        ("opentelemetry.instrumentation.redis", "auto.db.otel.redis"),
        ("opentelemetry.instrumentation.celery", "auto.queue.otel.celery"),
        ("opentelemetry.instrumentation.grpc._server", "auto.rpc.otel.grpc"),
        ("opentelemetry.instrumentation.jinja2", "auto.template.otel.jinja2"),
        ("opentelemetry.instrumentation.some-thing", "auto.otel.some_thing"),
        ("otel_sentry_redis", "auto.cache.otel.redis"),
        ("otel_sentry_django", "auto.cache.otel.django"),
        ("otel_sentry", "manual"),
        ("shop.views", "manual"),
        ("", "manual"),
    ],
)
def test_origin(scope: str, origin: str) -> None:
    """2.5: origin from the instrumentation scope, in the characters that Relay takes."""
    assert origin_of(scope)[0] == origin


# 2.7
@pytest.mark.parametrize(
    ("route", "otel", "sentry"),
    [
        ("users/<int:pk>/", "/users/<int:pk>/", "/users/{pk}/"),
        ("users/<slug>/", "/users/<slug>/", "/users/{slug}/"),
        (r"^api/(?P<pk>\d+)/$", r"/api/(?P<pk>\d+)/", "/api/{pk}/"),
        (r"api/^v(?P<version>[^/)]+)/(\w+)/$", r"/api/v(?P<version>[^/)]+)/(\w+)/", "/api/v{version}]+)/{var}/"),
        (r"^a/(?:b/)?(?P<x>(\d)+)\Z", r"/a/(?:b/)?(?P<x>(\d)+)", "/a/b/{x}+)"),
        ("/already/", "/already/", "/already/"),
    ],
)
def test_django_route(route: str, otel: str, sentry: str) -> None:
    """2.7: a leading slash for both styles; `sentry` writes what sentry-python wrote, oddities included."""
    assert (django_route(route), django_route(route, "sentry")) == (otel, sentry)


@pytest.mark.parametrize(
    "route", [r"^users/(?P<pk>\d+)/$", r"^(?P<slug>[-\w]+)/x/(\d+)/$", r"^a/(?:page-)?(?P<n>[0-9]+)/?$"]
)
def test_style_sentry_equals_sentry_python(route: str) -> None:
    """2.7: style `sentry` gives the names of sentry-python's own resolver, so that history survives."""
    transactions = pytest.importorskip("sentry_sdk.integrations.django.transactions")
    from django.urls import re_path

    pattern = re_path(route, lambda request: None)
    assert django_route(route, "sentry") == "/" + transactions.RavenResolver()._simplify(pattern)


def test_style_sentry_names() -> None:
    """2.7: sentry-python's names for Django have no method; other libraries are left alone."""
    route = get(http__route="users/<int:pk>/")
    assert described("GET", SERVER, route, "django", style="sentry")[2:4] == ("/users/{pk}/", "route")
    assert described("GET", SERVER, get(url__path="/x"), "django", style="sentry")[2:4] == ("/x", "url")
    flask = get(http__route="/users/<int:pk>")
    assert described("GET", SERVER, flask, "flask", style="sentry").name == "GET /users/<int:pk>"


def test_celery_data() -> None:
    """2.7: the Queues module's attributes, from contrib's legacy ones; its noise is gone."""
    found = described(
        "run/shop.add",
        CONSUMER,
        {
            "celery.action": "run",
            "celery.state": "SUCCESS",
            "messaging.conversation_id": "c",
            "messaging.destination": "celery",
            "celery.delivery_info": "{'exchange': '', 'routing_key': 'celery'}",
            "messaging.message.id": "m",
            "celery.task_name": "shop.add",
            "celery.retries": 2,
            "messaging.message.receive.latency": 12.5,
        },
        "celery",
    )
    assert found.data == {
        "messaging.system": "celery",
        "messaging.operation.type": "process",
        "messaging.destination.name": "celery",
        "messaging.message.id": "m",
        "messaging.message.conversation_id": "c",
        "messaging.message.retry.count": 2,
        "messaging.message.receive.latency": 12.5,
        "celery.task_name": "shop.add",
        "celery.state": "SUCCESS",
        "sentry.kind": "consumer",
    }


def test_celery_named_exchange() -> None:
    """2.7: on a named exchange the routing key is not the queue's name."""
    attributes = {
        "celery.action": "run",
        "messaging.destination": "a.b.c",
        "celery.delivery_info": "{'exchange': 'topics'}",
        "celery.queue": "reports",
    }
    assert described("run/x", CONSUMER, attributes, "celery").data["messaging.destination.name"] == "reports"


def test_dropped_attributes() -> None:
    """2.6: carrier keys, command lines, headers and private keys are no data; business attributes are."""
    attributes = {
        "sentry.sample_rate": 1.0,
        "sentry.parentIsRemote": True,
        "process.command_args": ["x"],
        "http.request.header.cookie": ("a=1",),
        "_private": 1,
        "none": None,
        "business.operation": "checkout",
        "sentry.event_id": "e",
    }
    assert described("x", INTERNAL, attributes).data == {
        "business.operation": "checkout",
        "sentry.event_id": "e",
    }


# The sampler's view
@pytest.mark.parametrize(
    ("name", "kind", "attributes", "expected"),
    [
        ("run/shop.add", CONSUMER, None, ("shop.add", "queue.process", "task")),
        ("apply_async/shop.add", PRODUCER, None, ("shop.add", "queue.publish", "task")),
        (
            "GET item/<int:pk>/",
            SERVER,
            {"http.method": "GET", "http.target": "/item/3/?q=1"},
            ("GET /item/<int:pk>/", "http.server", "route"),
        ),
        (
            "GET item/<int:pk>/",
            SERVER,
            {"http.request.method": "GET"},
            ("GET /item/<int:pk>/", "http.server", "route"),
        ),
        ("GET", SERVER, {"http.request.method": "GET", "url.path": "/no"}, ("GET /no", "http.server", "url")),
        (
            "GET home",
            SERVER,
            {"http.request.method": "GET", "url.path": "/"},
            ("GET /", "http.server", "route"),
        ),
        (
            "SELECT",
            CLIENT,
            {"db.system": "postgresql", "db.statement": "select 1"},
            ("select ?", "db", "task"),
        ),
        ("work", INTERNAL, None, ("work", None, "custom")),
        ("work", INTERNAL, {"sentry.op": "job", "sentry.name": "n"}, ("n", "job", "custom")),
    ],
)
def test_describe_start(name: str, kind: SpanKind, attributes: Any, expected: tuple[str, str | None, str]) -> None:
    """3.2: samplers get the inferred name, op and source, from the name and the start attributes alone."""
    assert describe_start(name, kind, attributes) == expected


def test_describe_start_style_sentry() -> None:
    """2.7: the sampler sees the name that the transaction will have."""
    name = describe_start("GET item/<int:pk>/", SERVER, {"http.method": "GET", "http.target": "/item/3/"}, "sentry")
    assert name == ("/item/{pk}/", "http.server", "route")


def test_imports_neither_sdk() -> None:
    """The house: convention is tables and pure functions on the API's types only."""
    code = (
        "import sys, otel_sentry.convention\n"
        "bad = [m for m in sys.modules if m.startswith(('sentry_sdk', 'opentelemetry.sdk', 'django'))]\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
