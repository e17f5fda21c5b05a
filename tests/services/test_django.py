"""Django under the launcher: the test client for what a request becomes, real servers for how it starts."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support.relay import assert_relay_ok
from tests.support.servers import free_port

pytestmark = pytest.mark.services
ROOT = pathlib.Path(__file__).parents[2]
SITE = pathlib.Path(__file__).parent.parent / "apps" / "site"
LAUNCHER = pathlib.Path(sys.executable).with_name("opentelemetry-instrument")


def environ(receiver: Receiver, **more: str) -> dict[str, str]:
    """Only the DSN and what the test wants; no DJANGO_SETTINGS_MODULE."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "instrumentation")])
    return {
        **os.environ,
        "PYTHONPATH": path,
        "SENTRY_DSN": receiver.dsn,
        "SENTRY_ENVIRONMENT": "development",
        "SENTRY_RELEASE": "small@1",
        **more,
    }


def probe(receiver: Receiver, code: str, launcher: bool = True, **more: str) -> dict[str, Any]:
    """Run *code* in a fresh Django process (tests/apps/site/probe.py); returns its spans and SQL queries."""
    command = [sys.executable, "probe.py", code]
    result = subprocess.run(
        [str(LAUNCHER), *command] if launcher else command,
        env=environ(receiver, **more),
        cwd=SITE,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    faults = [line for line in result.stderr.splitlines() if "ignored a fault" in line]
    assert faults == [], result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def server_spans(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [span for span in found["spans"] if span["kind"] == "SERVER"]


def test_an_unhandled_exception_is_one_issue(receiver: Receiver) -> None:
    """From view or middleware, WSGI or ASGI: one issue with the ids of the request's span, which failed."""
    code = """if True:
        client.get("/boom/")
        asyncio.run(async_client.get("/boom-async/"))
        client.get("/", headers={"X-Fail": "1"})
    """
    expected = [("ValueError", "in view"), ("ValueError", "in async view"), ("RuntimeError", "in middleware")]
    spans = server_spans(probe(receiver, code))
    events = {event["contexts"]["trace"]["span_id"]: event for event in receiver.events}
    assert len(receiver.events) == len(spans) == len(expected)
    for span, (kind, text) in zip(spans, expected, strict=True):
        event = events[span["span_id"]]
        (exception,) = event["exception"]["values"]
        assert (exception["type"], exception["value"]) == (kind, text)
        assert (exception["mechanism"]["type"], exception["mechanism"]["handled"]) == ("django", False)
        assert event["contexts"]["trace"]["trace_id"] == span["trace_id"]
        assert (span["status"], span["events"]) == ("ERROR", ["exception"])
        assert span["attributes"]["sentry.event_id"] == event["event_id"]
        assert event["request"]["method"] == "GET"
        assert_relay_ok(event)


def test_djangos_own_answers_are_no_failure(receiver: Receiver) -> None:
    """Http404, PermissionDenied and an unknown address are no issue and no ERROR status."""
    found = probe(receiver, "for path in ('missing', 'denied', 'nowhere'): client.get(f'/{path}/')")
    spans = server_spans(found)
    assert [span["attributes"]["http.response.status_code"] for span in spans] == [404, 403, 404]
    assert [(span["status"], span["events"]) for span in spans] == [("UNSET", [])] * 3
    assert receiver.events == []


def test_a_suspicious_operation_does_not_fail_the_request(receiver: Receiver) -> None:
    """A 400 is no ERROR; Django logs it as an error of security, and that is the one issue."""
    (span,) = server_spans(probe(receiver, "client.get('/bad/')"))
    assert (span["attributes"]["http.response.status_code"], span["status"]) == (400, "UNSET")
    assert [event["logger"] for event in receiver.events] == ["django.security.SuspiciousOperation"]


def test_what_a_view_catches_is_no_issue(receiver: Receiver, postgres_url: str) -> None:
    """An IntegrityError that the view answers with 409 makes no issue, though psycopg's span records it."""
    with database(postgres_url) as url:
        probe(receiver, "said = client.get('/caught/').status_code", SMALL_DATABASE=url)
    assert receiver.transactions != []
    assert receiver.events == []


def test_looking_for_the_user_runs_no_query(receiver: Receiver) -> None:
    """A view that does not touch the user costs no query and has no user; its error neither."""
    setup = "client.force_login(user('ann'))"
    found = probe(receiver, "client.get('/'); client.get('/boom/')", PROBE_SETUP=setup)
    assert found["queries"] == []
    assert all("user.id" not in span["attributes"] for span in server_spans(found))
    (event,) = receiver.events
    assert "user" not in event


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ("client.force_login(user('ann'))", {"user.id": "1", "user_type": "customer"}),
        ("client.force_login(user('ann', is_staff=True))", {"user.id": "1", "user_type": "admin"}),
        ("", {"user_type": "anonymous"}),
    ],
)
def test_a_loaded_user_is_on_span_and_issue(receiver: Receiver, setup: str, expected: dict[str, str]) -> None:
    """Once the view has asked for the user, id and type are known; name and e-mail only with PII."""
    found = probe(receiver, "client.get('/who/'); client.get('/who/boom/')", PROBE_SETUP=setup)
    for span in server_spans(found):
        attributes = span["attributes"]
        assert {key: attributes[key] for key in ("user.id", "user_type") if key in attributes} == expected
    (event,) = receiver.events
    user = {
        "user_type": expected["user_type"],
        **({"id": expected["user.id"]} if "user.id" in expected else {}),
    }
    assert {key: event["user"].get(key) for key in user} == user
    assert "ann" not in json.dumps(event["user"])
    assert event["tags"]["user_type"] == expected["user_type"]


def test_with_pii(receiver: Receiver) -> None:
    """With SENTRY_SEND_DEFAULT_PII: name, e-mail, cookies and the client's address."""
    probe(
        receiver,
        "client.get('/who/boom/')",
        PROBE_SETUP="client.force_login(user('ann')); client.cookies['theme'] = 'dark'",
        SENTRY_SEND_DEFAULT_PII="1",
    )
    (event,) = receiver.events
    assert event["user"]["email"] == "ann@example.com"
    assert event["user"]["username"] == "ann"
    assert event["request"]["cookies"]["theme"] == "dark"
    assert event["request"]["env"]["REMOTE_ADDR"] == "127.0.0.1"


def test_without_pii_neither_cookies_nor_address(receiver: Receiver) -> None:
    """By default the request block has neither cookies, nor the client's address, nor credentials."""
    code = "client.cookies['theme'] = 'dark'; client.get('/boom/', headers={'Authorization': 'Bearer abc.def'})"
    probe(receiver, code)
    (event,) = receiver.events
    text = json.dumps(event["request"])
    assert "dark" not in text and "abc.def" not in text
    assert "REMOTE_ADDR" not in event["request"]["env"]


def test_users_of_two_requests_do_not_mix(receiver: Receiver) -> None:
    """On one thread: a request with a user, then one without; the second's issue knows no user."""
    setup = "client.force_login(user('ann'))"
    probe(receiver, "client.get('/who/boom/'); client.logout(); client.get('/boom/')", PROBE_SETUP=setup)
    first, second = receiver.events
    assert first["user"]["id"] == "1"
    assert "user" not in second


@pytest.mark.parametrize(
    ("call", "data"),
    [
        (
            "client.post('/form/', {'title': 'a', 'tag': ['x', 'y'], 'password': 'hidden'})",
            {"title": "a", "tag": ["x", "y"]},
        ),
        ("client.post('/json/', '{\"title\": \"a\"}', content_type='application/json')", {"title": "a"}),
        ("client.post('/boom/', {'title': 'a'})", {"title": "a"}),
    ],
)
def test_the_body_that_was_read(receiver: Receiver, call: str, data: dict[str, Any] | None) -> None:
    """A form or JSON body is on the issue, whether the view has read it or not."""
    probe(receiver, call)
    (event,) = receiver.events
    found = event["request"].get("data")
    assert found is None if data is None else data.items() <= found.items()
    assert "hidden" not in json.dumps(event)


def test_a_logged_exception_knows_request_and_transaction(receiver: Receiver) -> None:
    """`logger.exception` in a view is one issue with the request's data and the user known by then."""
    probe(receiver, "client.get('/logged/?q=1')")
    (event,) = receiver.events
    assert event["exception"]["values"][0]["type"] == "KeyError"
    assert event["request"]["url"].endswith("/logged/")
    assert event["request"]["query_string"] == "q=1"
    assert event["transaction"] == "GET /logged/"
    assert event["tags"]["user_type"] == "anonymous"


def test_path_is_known_without_a_raw_uri(receiver: Receiver) -> None:
    """Servers that pass no raw URI (wsgiref, the test client): the span has path and query all the same."""
    (span,) = server_spans(probe(receiver, "client.get('/items/3/?q=1')"))
    assert (span["attributes"]["url.path"], span["attributes"]["url.query"]) == ("/items/3/", "q=1")


def test_hooks_of_an_application_that_calls_contrib_itself(receiver: Receiver) -> None:
    """`DjangoInstrumentor().instrument(request_hook=...)` in the application: one span, both hooks run."""
    before = """if True:
        from opentelemetry.instrumentation.django import DjangoInstrumentor
        def hook(span, request):
            span.set_attribute("app.hook", request.path)
        DjangoInstrumentor().instrument(request_hook=hook)
    """
    for more in ({"PROBE_BEFORE": before}, {"PROBE_SETUP": f"client.get('/')\n{before}"}):
        (span,) = server_spans(probe(receiver, "client.get('/who/')", **more))
        assert span["attributes"]["app.hook"] == "/who/"
        assert span["attributes"]["user_type"] == "anonymous"


def test_installed_apps_without_the_launcher(receiver: Receiver) -> None:
    """`INSTALLED_APPS = ["otel_sentry_django"]` is a set-up of its own; with the launcher it does nothing."""
    for launcher in (False, True):
        receiver.clear()
        found = probe(receiver, "client.get('/boom/')", launcher=launcher, SMALL_APPS="otel_sentry_django")
        assert [span["name"] for span in server_spans(found)] == ["GET boom/"]
        assert len(receiver.events) == 1


@contextlib.contextmanager
def database(postgres_url: str) -> Iterator[str]:
    """A database of one test's own."""
    name = f"small_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield f"{postgres_url.rsplit('/', 1)[0]}/{name}"
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def running(receiver: Receiver, command: list[str], port: int, launcher: bool = True, **more: str) -> Iterator[None]:
    """*command*, as a rule under the launcher, until it answers; ended with SIGTERM."""
    process = subprocess.Popen(
        [str(LAUNCHER), *command] if launcher else command,
        env=environ(receiver, **more),
        cwd=SITE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, f"ended with {process.returncode}"
            try:
                get(port, "/")
                break
            except OSError:
                assert time.monotonic() < deadline, "does not answer"
                time.sleep(0.1)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


SERVERS = {
    "gunicorn": [sys.executable, "-m", "gunicorn", "small.wsgi", "--bind", "127.0.0.1:{port}"],
    "gunicorn --preload": [
        sys.executable,
        "-m",
        "gunicorn",
        "small.wsgi",
        "--preload",
        "--bind",
        "127.0.0.1:{port}",
    ],
    "gunicorn -k gevent": [
        sys.executable,
        "-m",
        "gunicorn",
        "small.wsgi",
        "-k",
        "gevent",
        "--bind",
        "127.0.0.1:{port}",
    ],
    "runserver": [sys.executable, "manage.py", "runserver", "127.0.0.1:{port}"],
}


@pytest.mark.parametrize("server", SERVERS)
def test_servers(receiver: Receiver, postgres_url: str, server: str) -> None:
    """The settings module is set in wsgi.py or manage.py only; requests, queries and errors arrive."""
    port = free_port()
    command = [part.format(port=port) for part in SERVERS[server]]
    with database(postgres_url) as url, running(receiver, command, port, SMALL_DATABASE=url):
        assert get(port, "/query/?q=1") == 200
        assert get(port, "/boom/") == 500
        names = {"GET /query/", "GET /boom/"}
        receiver.wait_for(lambda one: names <= {item["transaction"] for item in one.transactions} and one.events)
    by_name = {item["transaction"]: item for item in receiver.transactions}
    query = by_name["GET /query/"]
    assert any("current_database" in (span.get("description") or "") for span in query["spans"])
    assert query["contexts"]["trace"]["op"] == "http.server"
    (event,) = receiver.events
    assert event["contexts"]["trace"]["trace_id"] == by_name["GET /boom/"]["contexts"]["trace"]["trace_id"]
    assert event["request"]["url"] == f"http://127.0.0.1:{port}/boom/"
    for item in (*receiver.transactions, event):
        assert_relay_ok(item)
