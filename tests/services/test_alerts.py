"""Alerts of real processes: limits shared through Valkey, sinks at exit, read back from a Sentry-compatible server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support.bugsink import Bugsink
from tests.support.sinks import http_server, pagerduty_schema, slack_schema
from tests.support.studio import LAUNCHER

pytestmark = [pytest.mark.services, pytest.mark.once]

FLOOD = """
import sys, time
from otel_sentry import alert_manager, flush
for number in range(40):
    alert_manager.trigger_business_alert("outage", "high", "the same")
    alert_manager.trigger_business_alert("other", "high", f"{sys.argv[1]} {number}")
flush(10)
"""

ONE = """
import otel_sentry
from opentelemetry import trace
with trace.get_tracer("t").start_as_current_span("charge"):
    otel_sentry.set_user({"id": 7, "email": "ann@example.com"})
    with otel_sentry.tag_business_operation("checkout", module="shop"):
        print(otel_sentry.alert_manager.trigger_business_alert(
            "payment_failed", "critical", "first", {"amount": 3, "password": "hunter2"}))
print(otel_sentry.alert_manager.trigger_business_alert("payment_failed", "critical", "second"))
print(otel_sentry.alert_manager.trigger_business_alert("queue_full", "medium", "1000 wait"))
"""


def start(code: str, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    """A program under the launcher."""
    env = {"PATH": os.environ["PATH"], "SENTRY_ENVIRONMENT": "production", **settings}
    if os.environ.get("PYTHONPATH"):
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return subprocess.Popen(
        [LAUNCHER, sys.executable, "-c", code, *arguments],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "ignored a fault" not in err, err
    return out, err


def test_limits_are_shared(receiver: Receiver, valkey_url: str) -> None:
    """Two processes at once: the same alert arrives once, and 30 in all."""
    own = {"SENTRY_DSN": receiver.dsn, "OTEL_SENTRY_STORE": f"{valkey_url.rstrip('/0')}/9"}
    for process in [start(FLOOD, str(number), **own) for number in range(2)]:
        end(process)
    alerts = [event for event in receiver.events if event.get("tags", {}).get("alert_type")]
    assert len(alerts) == 30
    assert len([event for event in alerts if event["tags"]["alert_type"] == "outage"]) == 1
    assert receiver.faults == []


def test_sinks_at_exit(receiver: Receiver) -> None:
    """A short program's alerts reach the sinks of their severity on its way out, the links with them."""
    with http_server(slack_schema) as slack, http_server(pagerduty_schema) as pagerduty:
        process = start(
            ONE, SENTRY_DSN=receiver.dsn, OTEL_SENTRY_ALERT_SINKS="critical=pagerduty+slack,warning=slack",
            OTEL_SENTRY_SLACK_WEBHOOK_URL=f"{slack.url}/services/T0/B0/s3cret", OTEL_SENTRY_PAGERDUTY_URL=pagerduty.url,
            OTEL_SENTRY_PAGERDUTY_ROUTING_KEY="k" * 32, OTEL_SENTRY_WEB_URL="https://acme.sentry.io",
        )  # fmt: skip
        out, err = end(process)
        assert [got.document["payload"]["summary"] for got in pagerduty.got] == [
            "[critical] payment_failed: first", "[critical] payment_failed: second",
        ]  # fmt: skip
        assert len({got.document["dedup_key"] for got in pagerduty.got}) == 1 and len(slack.got) == 3, err
        told = repr([slack.got, pagerduty.got])
    first, second, third = out.split()
    assert sorted(event["event_id"] for event in receiver.events) == sorted([first, second, third])
    assert f"https://acme.sentry.io/issues/?query={first}" in told
    assert "hunter2" not in told and "ann@" not in told and "s3cret" not in err


def test_a_dead_sink_costs_the_exit_nothing(receiver: Receiver) -> None:
    """A sink that refuses connections: the events arrive, the program ends in time, one line says what was lost."""
    began = time.monotonic()
    process = start(
        ONE, SENTRY_DSN=receiver.dsn, OTEL_SENTRY_ALERT_SINKS="webhook",
        OTEL_SENTRY_ALERT_WEBHOOK_URL="http://127.0.0.1:9/s3cret",
    )  # fmt: skip
    _, err = end(process)
    assert len(receiver.events) == 3 and time.monotonic() - began < 15
    assert "an alert did not reach the sink webhook: connection refused by 127.0.0.1" in err and "s3cret" not in err


def test_read_back_from_bugsink(bugsink_server: Bugsink) -> None:
    """One issue for each type, at its level, with the context scrubbed, the caller's user, operation and trace."""
    release = f"alerts@{uuid.uuid4().hex[:8]}"
    out, _ = end(start(ONE, SENTRY_DSN=bugsink_server.dsn, SENTRY_RELEASE=release, OTEL_SENTRY_SHUTDOWN_TIMEOUT="20"))
    deadline = time.monotonic() + 20
    events: dict[str, dict[str, Any]] = {}
    while len(events) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
        events = {event["event_id"]: event for event in bugsink_server.events() if event.get("release") == release}
    first, second, third = (events[event_id] for event_id in out.split())
    assert [event["level"] for event in (first, second, third)] == ["fatal", "fatal", "warning"]
    assert first["fingerprint"] == second["fingerprint"] == ["business-alert", "payment_failed"]
    assert first["contexts"]["business_alert"]["amount"] == 3
    assert first["contexts"]["business_alert"]["password"] == "[Filtered]"
    assert first["contexts"]["business_context"]["operation"] == "checkout"
    assert first["user"] == {"id": 7} or first["user"] == {"id": "7"}
    assert first["transaction"] == "charge" and len(first["contexts"]["trace"]["trace_id"]) == 32
    assert bugsink_server.complaints() == []
