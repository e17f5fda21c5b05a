"""Done 3: what we send, read back from servers that are not ours."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from otel_sentry.demo.stack import STUDIO
from tests.support.bugsink import Bugsink
from tests.support.studio import studio

pytestmark = [pytest.mark.services, pytest.mark.once]


#: Other tests send to the same Bugsink.
RELEASE = "read-back@1"


def _events(server: Bugsink) -> list[dict[str, Any]]:
    return [event for event in server.events() if event.get("release") == RELEASE]


def test_issue_in_bugsink_has_its_transactions_trace(
    bugsink_server: Bugsink, receiver: Receiver, postgres_url: str, valkey_url: str
) -> None:
    """The view's and the task's issue, as a real Sentry-compatible server stores them, are of the right traces."""
    web = ["gunicorn", "studio.wsgi", "--bind", "{bind}"]
    worker = ["--pool=prefork", "-c", "1"]
    own = {"SENTRY_RELEASE": RELEASE}
    with studio(receiver, postgres_url, valkey_url, web=web, worker=worker, dsn=bugsink_server.dsn, env=own) as running:
        # Bugsink answers every envelope with "no transactions for a day", and our sender obeys: each process gets one
        # transaction through, if it sends no issue before. Here that is the request that publishes the task.
        code = "from posts.models import Post; Post.objects.create(title='x', kind='note')"
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-v", "0", "-c", code], cwd=STUDIO, env=running.env, check=True
        )
        assert running.visitor.post_json("/posts/1/export/") == 202
        assert running.visitor.get("/posts/1/broken/") == 500
        deadline = time.monotonic() + 30
        while len(_events(bugsink_server)) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(1.0)
        logs = running.log_text()
    events = {event["exception"]["values"][-1]["type"]: event for event in _events(bugsink_server)}
    assert sorted(events) == ["ExportFailed", "ZeroDivisionError"], logs
    assert bugsink_server.complaints() == []
    payloads = [item.json for _, items in bugsink_server.envelopes() for item in items if item.type == "transaction"]
    (root,) = [payload for payload in payloads if payload.get("release") == RELEASE]
    assert root["transaction"] == "POST /posts/<int:post_id>/export/"
    failed, broken = events["ExportFailed"], events["ZeroDivisionError"]
    assert failed["contexts"]["trace"]["trace_id"] == root["contexts"]["trace"]["trace_id"]
    assert failed["transaction"] == "posts.tasks.export_post"
    assert broken["transaction"] == "GET /posts/<int:post_id>/broken/"
    headers = {h["event_id"]: h.get("trace") for h, items in bugsink_server.envelopes() if items[0].type == "event"}
    for event in (failed, broken):
        assert headers[event["event_id"]]["trace_id"] == event["contexts"]["trace"]["trace_id"]
