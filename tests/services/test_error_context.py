"""What an error of a real Django application says beside its stack trace, with no code of ours in its views."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.services.test_django import database, probe, server_spans
from tests.support.bugsink import Bugsink

pytestmark = pytest.mark.services

_RELEASE = "error-context@1"
_SETUP = "ann = user('user', pk=123); client.force_login(ann)"
#: What the browser of the guide's example sends.
_POST = """
client.post(
    "{path}", {{"title": "{path}", "kind": "video"}}, REMOTE_ADDR="192.168.1.1",
    headers={{"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}},
)
"""


@pytest.fixture(scope="module")
def site(postgres_url: str) -> Iterator[str]:
    with database(postgres_url) as url:
        yield url


def trail(event: dict[str, Any]) -> list[str]:
    return [crumb["message"] for crumb in event["breadcrumbs"]["values"]]


@pytest.mark.once
def test_the_guides_error_context(bugsink_server: Bugsink, receiver: Receiver, site: str) -> None:
    """The JSON block of the guide, and its trail of a post whose upload fails, read back from a real server."""
    probe(
        receiver, _POST.format(path="/api/posts/"), SMALL_DATABASE=site, PROBE_SETUP=_SETUP, SENTRY_RELEASE=_RELEASE,
        SENTRY_DSN=bugsink_server.dsn, SENTRY_SEND_DEFAULT_PII="1",
    )  # fmt: skip
    deadline = time.monotonic() + 20
    events: list[dict[str, Any]] = []
    while not events and time.monotonic() < deadline:
        events = [event for event in bugsink_server.events() if event.get("release") == _RELEASE]
        time.sleep(0.1)
    (event,) = events
    contexts = event["contexts"]
    assert event["user"].items() >= {"id": "123", "email": "user@example.com", "user_type": "customer"}.items()
    assert contexts["request_details"] == {
        "method": "POST",
        "path": "/api/posts/",
        "client_ip": "192.168.1.1",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
    }
    assert contexts["business_context"] == {
        "operation": "post_creation",
        "module": "post",
        "details": {"file_type": "video", "event_id": "456"},
    }
    performance = contexts["performance"]
    assert 0 < performance["response_time_ms"] < 2000 and performance["slow_operation"] is False
    assert performance["database_calls"] >= 2 and performance["database_time_ms"] > 0
    assert (event["tags"]["user_type"], event["fingerprint"]) == ("customer", ["{{ default }}", "post_creation"])
    found = trail(event)
    expected = [
        "Request started: POST /api/posts/",
        "Authentication check: signed in",
        "Business validation: PostForm",
        'INSERT INTO "auth_group"',
        "Error occurred: UploadFailed",
    ]
    places = [next(i for i, one in enumerate(found) if one.startswith(text)) for text in expected]
    assert places == sorted(places) and places[0] == 0 and places[-1] == len(found) - 1, found
    assert bugsink_server.complaints() == []


def test_without_pii_and_without_an_operation(receiver: Receiver, site: str) -> None:
    """Who it was is known by id and type only, and Sentry's own grouping is left alone; a setting names the type."""
    setup = "ann = user('ann', first_name='reader'); client.force_login(ann)"
    more = {"PROBE_SETUP": setup, "OTEL_SENTRY_USER_TYPE": "first_name"}
    found = probe(receiver, _POST.format(path="/posts/"), SMALL_DATABASE=site, **more)
    (event,) = receiver.events
    assert event["user"] == {"id": event["user"]["id"], "user_type": "reader"}
    assert event["tags"]["user_type"] == "reader"
    (span,) = server_spans(found)
    assert span["attributes"]["user_type"] == "reader"
    assert "client_ip" not in event["contexts"]["request_details"]
    assert "fingerprint" not in event and "business_context" not in event["contexts"]


def test_a_form_that_is_not_valid(receiver: Receiver, site: str) -> None:
    """A form that is not valid is a warning; of its fields only the names are told."""
    code = "client.post('/posts/', {'title': '', 'kind': 'hologram', 'strict': '1'})"
    probe(receiver, code, SMALL_DATABASE=site, PROBE_SETUP="ann = user('bob'); client.force_login(ann)")
    (event,) = receiver.events
    (crumb,) = [one for one in event["breadcrumbs"]["values"] if one["category"] == "validation"]
    assert (crumb["message"], crumb["level"]) == ("Business validation failed: PostForm", "warning")
    assert crumb["data"] == {"fields": ["title", "kind"]}
    assert "hologram" not in str(event["breadcrumbs"])


def test_rest_framework(receiver: Receiver, site: str) -> None:
    """A token's user, the permission classes and the serializer are in the trail; nobody's request is anonymous."""
    pytest.importorskip("rest_framework")
    code = """if True:
        head = {"Authorization": f"Token {ann.pk}"}
        send = dict(content_type="application/json", headers=head)
        client.post("/api/checked/", {"title": "x", "pages": 1}, **send)
        client.post("/api/checked/", {"title": "x", "pages": "many"}, **send)
        client.get("/who/boom/")
    """
    more = {"SMALL_APPS": "rest_framework", "PROBE_SETUP": "ann = user('carl')", "SMALL_DATABASE": site}
    probe(receiver, code, **more)
    good, bad, nobody = receiver.events
    checks = ["Authentication check: signed in", "Permission check: IsAuthenticated"]
    for event, last in (good, "Business validation: Post"), (bad, "Business validation failed: Post"):
        found = [one for one in event["breadcrumbs"]["values"] if one["category"] in ("auth", "validation")]
        assert [one["message"] for one in found] == [*checks, last]
    assert found[-1]["data"] == {"fields": ["pages"]}
    assert trail(nobody)[:2] == ["Request started: GET /who/boom/", "Authentication check: anonymous"]
    assert nobody["user"]["user_type"] == "anonymous"
