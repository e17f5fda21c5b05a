"""Django beyond the span: templates, middlewares, request details, Django REST framework, checks, doctor."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from otel_sentry import runtime
from otel_sentry.cli.receiver import Receiver
from otel_sentry.settings import load
from otel_sentry_django.address import client_ip
from tests.services.test_django import ROOT, SITE, environ, probe, server_spans
from tests.support.relay import assert_relay_ok

pytestmark = pytest.mark.services


def test_templates_and_middlewares(receiver: Receiver) -> None:
    """A rendered template is one span, with what it includes; middlewares have theirs on request, one in the other."""
    code = "client.get('/page/'); asyncio.run(async_client.get('/page/'))"
    found = probe(receiver, code, OTEL_SENTRY_DJANGO_MIDDLEWARE_SPANS="1")
    assert [span["status"] for span in server_spans(found)] == ["UNSET"] * 2
    for page in [item for item in receiver.transactions if item["transaction"] == "GET /page/"]:
        spans = {span["description"]: span for span in page["spans"]}
        template = spans["page.html"]
        assert (template["op"], template["origin"]) == ("template.render", "auto.template.otel.django")
        chain = ["SessionMiddleware.__call__", "AuthenticationMiddleware.__call__", "failing_middleware"]
        parent = page["contexts"]["trace"]["span_id"]
        for name in chain:
            (span,) = [one for text, one in spans.items() if text.endswith(name)]
            assert (span["op"], span["parent_span_id"]) == ("middleware.django", parent)
            assert span["origin"] == "auto.middleware.otel.django"
            parent = span["span_id"]
        assert template["parent_span_id"] == parent
        assert len(spans) == 4
        assert_relay_ok(page)


def test_template_spans_can_be_turned_off(receiver: Receiver) -> None:
    """`OTEL_SENTRY_DJANGO_TEMPLATE_SPANS=0`; middlewares have no spans unless asked for."""
    found = probe(receiver, "client.get('/page/')", OTEL_SENTRY_DJANGO_TEMPLATE_SPANS="0")
    assert [span["name"] for span in found["spans"]] == ["GET page/"]


BODIES: list[tuple[str, Any]] = [
    ("client.post('/boom/', {'title': 'a', 'password': 'hidden'})", {"title": "a", "password": "[Filtered]"}),
    ("client.post('/boom/', 'title=b&tag=x&tag=y', content_type='application/x-www-form-urlencoded')",
     {"title": "b", "tag": ["x", "y"]}),
    ("client.post('/boom/', '{\"title\": \"c\"}', content_type='application/json')", {"title": "c"}),
    ("client.post('/boom/', b'\\x00' * 20, content_type='application/x-thing')", "<20 bytes>"),
    ("client.post('/boom/', 'x' * 20_000, content_type='application/json')", "<20000 bytes>"),
    ("client.post('/boom/', {'title': 'd', 'cv': io.BytesIO(b'12345')})", {"title": "d", "cv": "<file of 5 bytes>"}),
    ("asyncio.run(async_client.post('/boom-async/', {'title': 'e'}))", {"title": "e"}),
    ("client.get('/boom/')", None),
]  # fmt: skip


def test_the_body_of_a_failed_request(receiver: Receiver) -> None:
    """Read at error time although the view did not: fields, JSON, sizes of files; scrubbed, and within bounds."""
    probe(receiver, "import io\n" + "\n".join(call for call, _ in BODIES))
    assert [event["request"].get("data") for event in receiver.events] == [expected for _, expected in BODIES]
    assert "hidden" not in json.dumps(receiver.events)
    assert [event["request"]["method"] for event in receiver.events] == ["POST"] * 7 + ["GET"]


def test_a_handled_error_leaves_the_stream_to_the_view(receiver: Receiver) -> None:
    """Logged in the middle of a view: the issue has no body, since the view may still want to read it."""
    code = "client.post('/logged/', {'title': 'a'}); said = client.post('/logged/', {'x': 'y'}).status_code"
    assert probe(receiver, code)["said"] == 200
    assert [event["request"].get("data") for event in receiver.events] == [None, None]


def test_request_details_with_pii(receiver: Receiver) -> None:
    """User agent always; cookies but for session and CSRF, and the client's address, only with PII."""
    code = """if True:
        client.cookies["theme"], client.cookies["my-session"] = "dark", "abc"
        headers = {"user-agent": "curl/8", "x-forwarded-for": "203.0.113.9, 10.0.0.2"}
        client.get("/boom/", headers=headers)
        async_client.cookies["theme"] = "dark"
        asyncio.run(async_client.get("/boom-async/", headers=headers))
    """
    more = {"SMALL_SESSION_COOKIE": "my-session", "OTEL_SENTRY_TRUSTED_PROXIES": "127.0.0.0/8,10.0.0.0/8"}
    probe(receiver, code, SENTRY_SEND_DEFAULT_PII="1", **more)
    for event in receiver.events:
        details = event["contexts"]["request_details"]
        assert details["client_ip"] == event["request"]["env"]["REMOTE_ADDR"] == "203.0.113.9"
        assert event["user"]["ip_address"] == "203.0.113.9"
        assert details["user_agent"] == "curl/8"
        assert event["request"]["cookies"]["theme"] == "dark"
        assert_relay_ok(event)
    assert receiver.events[0]["request"]["cookies"]["my-session"] == "[Filtered]"
    receiver.clear()
    probe(receiver, code, **more)
    for event in receiver.events:
        assert "client_ip" not in event["contexts"]["request_details"]
        assert event["contexts"]["request_details"]["user_agent"] == "curl/8"
        assert "203.0.113.9" not in json.dumps(event) and "dark" not in json.dumps(event)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "remote", "expected"),
    [
        ("", "203.0.113.9", "10.0.0.1", "10.0.0.1"),
        ("", "", "", None),
        ("1", "6.6.6.6, 203.0.113.9", "10.0.0.1", "203.0.113.9"),
        ("2", "6.6.6.6, 203.0.113.9, 10.0.0.2", "10.0.0.1", "203.0.113.9"),
        ("2", "203.0.113.9", "10.0.0.1", "10.0.0.1"),
        ("1", "not an address", "10.0.0.1", "10.0.0.1"),
        ("1", "203.0.113.9:5060", "", "203.0.113.9"),
        ("10.0.0.0/8", "6.6.6.6, 203.0.113.9, 10.0.0.2", "10.0.0.1", "203.0.113.9"),
        ("10.0.0.0/8", "203.0.113.9", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.0/8", "10.1.1.1", "10.0.0.1", "10.1.1.1"),
        ("10.0.0.0/8", "[2001:db8::1]:443", "", "2001:db8::1"),
        ("10.0.0.0/8,::1", "unknown, 10.0.0.7", "::1", "10.0.0.7"),
        ("three", "203.0.113.9", "10.0.0.1", "10.0.0.1"),
    ],
)
def test_trusted_proxies(proxies: str, forwarded: str, remote: str, expected: str | None) -> None:
    """Nobody's `X-Forwarded-For` is believed further than the proxies that were named; bad values mean none."""
    settings = load({"OTEL_SENTRY_TRUSTED_PROXIES": proxies})
    nothing: Any = None
    runtime.set_current(runtime.Runtime(settings, None, None, nothing, nothing))
    try:
        assert client_ip({"HTTP_X_FORWARDED_FOR": forwarded, "REMOTE_ADDR": remote}) == expected
    finally:
        runtime.set_current(None)


def test_rest_framework(receiver: Receiver) -> None:
    """Errors once: not those that it answers with 4xx, but those with 5xx; with the data it read, and the user."""
    code = """if True:
        for what in ("boom", "invalid", "down", "fine"):
            client.post(f"/api/orders/{what}/", '{"title": "a"}', content_type="application/json",
                        headers={"Authorization": "Token 1"})
        client.post("/api/orders/boom/", {"title": "b", "file": io.BytesIO(b"123")})
    """
    more = {"SMALL_APPS": "rest_framework", "PROBE_SETUP": "import io; user('ann')"}
    found = probe(receiver, code, **more)
    assert len(found["queries"]) == 4  # the four tokens'
    boom, down, form = receiver.events
    assert [one["exception"]["values"][-1]["type"] for one in receiver.events] == [
        "ValueError", "APIException", "ValueError"
    ]  # fmt: skip
    assert [one["exception"]["values"][-1]["mechanism"]["handled"] for one in receiver.events] == [False, True, False]
    assert boom["request"]["data"] == down["request"]["data"] == {"title": "a"}
    assert form["request"]["data"] == {"title": "b", "file": "<file of 3 bytes>"}
    assert boom["user"]["id"] == down["user"]["id"] == "1"
    assert "Token 1" not in json.dumps(receiver.events)
    spans = server_spans(found)
    assert [span["attributes"]["http.response.status_code"] for span in spans] == [500, 400, 500, 200, 500]
    assert [span["attributes"].get("user.id") for span in spans] == ["1"] * 4 + [None]
    assert spans[1]["status"] == "UNSET"


def test_trace_meta(receiver: Receiver) -> None:
    """`{% trace_meta %}`: the tags of the running request, escaped, without other people's baggage."""
    code = """said = client.get("/meta/", headers={"baggage": 'tenant="secret",sentry-release=a%22%3Eb',
                   "sentry-trace": "0123456789abcdef0123456789abcdef-0123456789abcdef-1"}).content.decode()"""
    found = probe(receiver, code, SMALL_APPS="otel_sentry_django")
    tags = dict(re.findall(r'<meta name="([^"]+)" content="([^"]*)">', found["said"]))
    assert set(tags) == {"sentry-trace", "baggage", "traceparent"}
    assert tags["sentry-trace"].startswith("0123456789abcdef0123456789abcdef-")
    assert tags["sentry-trace"].endswith("-1")
    assert tags["traceparent"].split("-")[1:3] == tags["sentry-trace"].split("-")[:2]
    assert "secret" not in found["said"] and ">b" not in tags["baggage"]


def test_trace_meta_without_a_trace() -> None:
    """Outside of a trace it is empty."""
    import otel_sentry

    assert otel_sentry.trace_meta() == ""


def manage(receiver: Receiver, *arguments: str, **more: str) -> SimpleNamespace:
    """manage.py of the site with our app installed, without the launcher."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env=environ(receiver, SMALL_APPS="otel_sentry_django", **more),
        cwd=SITE,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.once
def test_system_check(receiver: Receiver) -> None:
    """Silent when all is well; a malformed DSN, contrib's middleware by hand: a hint each, and no failure."""
    assert "no issues" in manage(receiver, "check").out
    more = {
        "SMALL_MIDDLEWARE": "opentelemetry.instrumentation.django.middleware.otel_middleware._DjangoMiddleware",
        "OTEL_PYTHON_DISTRO": "other",
    }
    done = manage(receiver, "check", SENTRY_DSN="https://sentry.example/1", **more)
    assert done.code == 0, done.err
    assert "(otel_sentry.W001) the DSN is malformed" in done.err
    assert "(otel_sentry.W001) MIDDLEWARE lists opentelemetry" in done.err
    assert "(otel_sentry.W001) OTEL_PYTHON_DISTRO=other" in done.err
    assert "(otel_sentry.I002) no SENTRY_DSN" in manage(receiver, "check", SENTRY_DSN="").err


@pytest.mark.once
def test_doctor(receiver: Receiver) -> None:
    """`manage.py otel_sentry doctor --send`: one error arrives, and it says so; refused, it says that and fails."""
    done = manage(receiver, "otel_sentry", "doctor", "--send")
    assert done.code == 0, done.out + done.err
    (event,) = receiver.events
    assert event["exception"]["values"][0]["type"] == "DoctorTestError"
    assert f"test error accepted by 127.0.0.1: {event['event_id']}" in done.out
    assert re.search(r"^ok    django [\d.]+ is instrumented$", done.out, re.M)
    assert receiver.dsn.split("@")[0].split("//")[1] not in done.out
    receiver.answer(403, times=None)
    done = manage(receiver, "otel_sentry", "doctor", "--send")
    assert (done.code, "was not accepted" in done.out) == (1, True)


@pytest.mark.once
def test_doctor_of_the_command_line(receiver: Receiver) -> None:
    """`otel-sentry doctor`: without a DSN it says so and exits with 1."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "instrumentation")])
    command = [sys.executable, "-m", "otel_sentry", "doctor"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "off   no SENTRY_DSN" in done.stdout
