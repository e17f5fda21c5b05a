"""Where other SDKs choose differently and we refused: each choice is a test, the reason its docstring.

The sections are those of the specification; the peers were read in their sources.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import SpanKind

from tests.unit.test_convention import CLIENT, CONSUMER, INTERNAL, SERVER, described


def test_the_stable_statement_is_read_too() -> None:
    """2.3: sentry-javascript reads `db.statement` only: with stable conventions a query is called by its span."""
    statement = {"db.system.name": "postgresql", "db.query.text": "SELECT 1 FROM t"}
    assert described("SELECT", CLIENT, statement, "psycopg").description == "SELECT ? FROM t"


def test_an_error_after_status_200_is_no_success() -> None:
    """2.4: potel and sentry-javascript answer `ok` (the HTTP code wins): a stream that broke would look healthy."""
    found = described("GET", SERVER, {"http.method": "GET", "http.status_code": 200}, "django", error="ValueError: x")
    assert found.status == "internal_error"


def test_messages_are_queues() -> None:
    """2.3: sentry-javascript, Relay and potel say `message`, Go `messaging`: the Queues module only knows `queue.*`."""
    assert described("q", CONSUMER, {"messaging.system": "kafka"}, "kafka").op == "queue.process"


def test_celery_is_a_queue_without_messaging_system() -> None:
    """0.3: no peer's rule (`messaging.system`) matches Python's Celery: its runs would have no op at all."""
    assert described("run/shop.add", CONSUMER, {"celery.action": "run"}, "celery").op == "queue.process"


def test_names_have_no_query() -> None:
    """2.3: potel, .NET, Ruby and Java name by `http.target`, query included: tokens end up in transaction names."""
    target = {"http.method": "GET", "http.target": "/reset?token=secret"}
    assert described("GET", SERVER, target, "wsgi").name == "GET /reset"


def test_grpc_codes_are_numbers_in_python() -> None:
    """2.4: sentry-javascript takes strings only, and "0" for unknown_error: Python sets ints, and 0 is a success."""
    codes: list[Any] = [0, "0", "OK", 4, "4"]
    found = [described("a/b", CLIENT, {"rpc.grpc.status_code": code}, "grpc").status for code in codes]
    assert found == ["ok", "ok", "ok", "deadline_exceeded", "deadline_exceeded"]


def test_unknown_failures_are_internal_errors() -> None:
    """2.4: potel, Java and .NET say `unknown_error`; sentry-python's own transactions say `internal_error`."""
    assert described("x", INTERNAL, None, "", error="boom").status == "internal_error"


def test_400_is_an_invalid_argument() -> None:
    """2.4: Relay and Go differ at 400 and 409 (failed_precondition, aborted): users know sentry-python's table."""
    codes = {400: "invalid_argument", 409: "already_exists"}
    for code, status in codes.items():
        assert described("GET", CLIENT, {"http.method": "GET", "http.status_code": code}, "requests").status == status


def test_elasticsearch_is_a_database() -> None:
    """0.9: every peer asks for HTTP first, and calls Elasticsearch's queries outgoing requests."""
    attributes = {"db.system": "elasticsearch", "http.request.method": "POST", "url.full": "http://es/_search"}
    assert described("search", CLIENT, attributes, "elasticsearch").op == "db"


def test_sqs_is_a_queue() -> None:
    """2.2: all but Java take SQS over HTTP for an outgoing request."""
    attributes = {"messaging.system": "aws_sqs", "messaging.operation": "publish", "http.request.method": "POST"}
    assert described("q", SpanKind.PRODUCER, attributes, "botocore").op == "queue.publish"


def test_the_root_path_is_a_route() -> None:
    """2.3: Relay would leave `GET /` as source `url`, kept out of the sampling context; there is nothing to cluster."""
    assert described("GET", SERVER, {"http.method": "GET", "http.target": "/?a=1"}, "wsgi")[2:4] == ("GET /", "route")


def test_django_below_wsgi_is_no_second_request() -> None:
    """2.3: peers make each a `http.server` span, and requests count twice."""
    attributes = {"http.method": "GET", "http.route": "x/"}
    assert described("GET x/", INTERNAL, attributes, "django", is_root=False).op == "middleware"


def test_unnamed_spans_have_no_op() -> None:
    """2.2: .NET and Java put the span's name or kind into the op: one op a span; Relay's `default` is what is meant."""
    assert described("resize image 17", INTERNAL).op is None


def test_attributes_are_sent_once() -> None:
    """2.6: Java, .NET and Ruby send a root's attributes in contexts.otel as well: half the event is a copy."""
    found = described("GET", SERVER, {"http.method": "GET", "http.request.method": "GET"}, "django")
    assert found.data == {"http.request.method": "GET", "sentry.kind": "server"}


def test_a_manual_span_keeps_its_name() -> None:
    """2.3: potel renames every span with HTTP attributes, the user's own ones too."""
    found = described("call partner", INTERNAL, {"http.method": "GET", "http.url": "http://p/"}, is_root=False)
    assert found.description == "call partner"
