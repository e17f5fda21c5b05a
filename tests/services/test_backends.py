"""Other backends by configuration alone: Datadog's own test agent beside Sentry, dead and hostile backends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support.datadog_agent import SESSION, Agent
from tests.support.otlp import OtlpReceiver
from tests.support.studio import LAUNCHER, Studio, studio

pytestmark = pytest.mark.services

KEPT = "a" * 32
REQUESTS = 12


def _visit(running: Studio) -> None:
    """*REQUESTS* posts, each with a task; the first is of a trace that Sentry keeps."""
    for number in range(REQUESTS):
        headers = {"Content-Type": "application/json"}
        if number == 0:
            headers["sentry-trace"] = f"{KEPT}-{'b' * 16}-1"
        request = urllib.request.Request(running.visitor.url + "/posts/", b'{"title": "x"}', headers)
        urllib.request.urlopen(request, timeout=20).close()


@pytest.mark.once
def test_the_demo_at_sentry_and_at_datadogs_agent(
    receiver: Receiver, agent: Agent, postgres_url: str, valkey_url: str
) -> None:
    """Issue 7, done 1: the same traces, over HTTP and gRPC at once, Sentry at 10 %, OTLP at 100 %; metrics and logs."""
    env = {
        "SENTRY_TRACES_SAMPLE_RATE": "0.1", "OTEL_SENTRY_PRESET": "datadog", "OTEL_SERVICE_NAME": "studio",
        "OTEL_TRACES_EXPORTER": "otel_sentry,otlp,otlp/second", "OTEL_LOGS_EXPORTER": "otlp,otlp/second",
        "OTEL_METRICS_EXPORTER": "otlp,otlp/second", "OTEL_SENTRY_SHUTDOWN_TIMEOUT": "10",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "OTEL_EXPORTER_OTLP_ENDPOINT": agent.http_url, "OTEL_EXPORTER_OTLP_HEADERS": f"{SESSION}=by-http",
        "OTEL_SENTRY_OTLP_SECOND_ENDPOINT": agent.grpc_url, "OTEL_SENTRY_OTLP_SECOND_PROTOCOL": "grpc",
        "OTEL_SENTRY_OTLP_SECOND_HEADERS": f"{SESSION}=by-grpc", "SENTRY_ENVIRONMENT": "dev", "SENTRY_RELEASE": "r1",
    }  # fmt: skip
    web = ["gunicorn", "studio.wsgi", "--bind", "{bind}", "--workers", "1"]
    with studio(receiver, postgres_url, valkey_url, web=web, worker=["--pool=prefork", "-c", "1"], env=env) as running:
        _visit(running)
        _until(lambda: _names(agent.spans("by-grpc")).count("run/posts.tasks.render_post") >= REQUESTS, 30)
    spans = {by: agent.spans(by) for by in ("by-http", "by-grpc")}
    ids = {by: sorted(span["span_id"] for span in found) for by, found in spans.items()}
    assert ids["by-http"] == ids["by-grpc"] and len(set(ids["by-http"])) == len(ids["by-http"]), running.log_text()
    found = {span["span_id"]: span for span in spans["by-http"]}
    assert {one["span_id"]: one for one in spans["by-grpc"]} == found
    assert _names(spans["by-http"]).count("POST posts/") == REQUESTS

    assert {t["contexts"]["trace"]["trace_id"] for t in receiver.transactions} >= {KEPT}
    assert 2 <= len(receiver.transactions) < 2 * REQUESTS
    for transaction in receiver.transactions:
        trace = transaction["contexts"]["trace"]
        for part in (trace, *transaction["spans"]):
            same = found[part["span_id"]]
            assert same["trace_id"] == part["trace_id"] and same["parent"] == (part.get("parent_span_id") or "")
            for key in same["attributes"].keys() & part["data"].keys():
                assert same["attributes"][key] == part["data"][key], key
        below = {one["span_id"] for one in (trace, *transaction["spans"])}
        here = below - _remote(found, below)
        assert all(one["span_id"] in below for one in spans["by-http"] if one["parent"] in here)

    for span in found.values():
        resource, attributes = span["resource"], span["attributes"]
        assert resource["service.name"] == "studio" and resource["service.version"] == "r1"
        assert resource["deployment.environment"] == resource["deployment.environment.name"] == "dev"
        assert attributes["operation.name"] and attributes["resource.name"] and attributes["span.type"]
        assert not any(key.startswith("sentry.") for key in attributes.keys() - {"sentry.event_id"})
    operations = {span["attributes"]["operation.name"] for span in found.values()}
    assert {"http.server.request", "postgresql.query", "celery.publish", "celery.process"} <= operations
    for by in spans:
        logs, metrics = agent.logs(by), agent.metrics(by)
        assert any(line["span_id"] in found and found[line["span_id"]]["trace_id"] == line["trace_id"] for line in logs)
        assert any(metric["name"].startswith("http.server") for metric in metrics)
    assert all(SESSION not in {name.lower() for name in one.http_headers} for one in receiver.attempts)


def _remote(found: dict[str, dict[str, Any]], below: set[str]) -> set[str]:
    """Producers: their children are another process's."""
    return {span_id for span_id in below if str(found[span_id]["kind"]).endswith(("PRODUCER", "4"))}


def _names(spans: list[dict[str, Any]]) -> list[str]:
    return [span["name"] for span in spans]


def _until(holds: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)


PROGRAM = """
import logging, time
from opentelemetry import metrics, trace
tracer = trace.get_tracer("t")
for number in range(50):
    with tracer.start_as_current_span("job"):
        with tracer.start_as_current_span("step", attributes={"api_key": "hunter2", "plan": "pro"}):
            pass
logging.getLogger("shop").warning("password=hunter2")
metrics.get_meter("m").create_counter("jobs").add(1, {"token": "hunter2", "kind": "x"})
print(time.time(), flush=True)
"""


def _run(env: dict[str, str], program: str = PROGRAM) -> tuple[float, str]:
    """Seconds from the program's last line to its end, and what it wrote to stderr."""
    done = subprocess.run(
        [LAUNCHER, sys.executable, "-c", program], env={**os.environ, "SENTRY_ENVIRONMENT": "dev", **env},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return time.time() - float(done.stdout.split()[-1]), done.stderr


def test_each_backend_gets_its_own_headers_rate_and_no_secret(receiver: Receiver) -> None:
    """Three backends: what one is given (headers, endpoint, rate) no other sees; all spans, logs, metrics scrubbed."""
    with OtlpReceiver() as first, OtlpReceiver() as second:
        env = {
            "SENTRY_DSN": receiver.dsn, "OTEL_TRACES_EXPORTER": "otel_sentry,otlp,otlp/my-tempo",
            "OTEL_LOGS_EXPORTER": "otlp,otlp/my-tempo", "OTEL_METRICS_EXPORTER": "otlp,otlp/my-tempo",
            "OTEL_EXPORTER_OTLP_ENDPOINT": first.url, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=first",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-traces=first", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SENTRY_OTLP_MY_TEMPO_ENDPOINT": second.url, "OTEL_SENTRY_OTLP_MY_TEMPO_HEADERS": "x-tenant=second",
            "OTEL_SENTRY_OTLP_MY_TEMPO_SAMPLE_RATE": "0.5", "OTEL_SENTRY_PRESET": "grafana",
            "SENTRY_TRACES_SAMPLE_RATE": "0.2",
        }  # fmt: skip
        _run(env)
    at_first, at_second = ({span["trace_id"] for span in one.spans} for one in (first, second))
    assert len(at_first) == 50 and 10 < len(at_second) < 40 and at_second < at_first
    assert len(second.spans) == 2 * len(at_second)  # whole traces
    at_sentry = {t["contexts"]["trace"]["trace_id"] for t in receiver.transactions}
    assert at_sentry < at_first and not at_sentry <= at_second
    for one, wanted in ((first, {"x-key", "x-traces"}), (second, {"x-tenant"})):
        seen = {name for _, headers in one.requests for name in headers if name.startswith("x-")}
        assert seen == wanted
        assert len(one.logs) == 1 and [metric["name"] for metric in one.metrics] == ["jobs"]
        assert "hunter2" not in str((one.spans, one.logs, one.metrics, one.resources))
        assert len({resource["service.instance.id"] for resource in one.resources}) == 1
    seen = {name.lower() for attempt in receiver.attempts for name in attempt.http_headers}
    assert not seen & {"x-key", "x-traces", "x-tenant"}


@pytest.mark.once
def test_a_dead_and_a_deaf_backend_cost_the_others_nothing(receiver: Receiver) -> None:
    """One that refuses, one that never answers: Sentry and the third get all, exit stays short, losses are said."""
    with OtlpReceiver() as fine, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        env = {
            "SENTRY_DSN": receiver.dsn, "OTEL_TRACES_EXPORTER": "otel_sentry,otlp/dead,otlp/deaf,otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": fine.url, "OTEL_SENTRY_OTLP_DEAD_ENDPOINT": "http://127.0.0.1:9",
            "OTEL_SENTRY_OTLP_DEAF_ENDPOINT": f"http://127.0.0.1:{deaf.getsockname()[1]}",
        }  # fmt: skip
        took, err = _run({**env, "SENTRY_TRACES_SAMPLE_RATE": "1"})
    assert len(receiver.transactions) == 50 and len(fine.spans) == 100
    assert took < 4, err  # the budget is 2 s; the machine may be busy
    assert "otlp/dead: 100 spans not delivered (100 exit" in err and "otlp/deaf: 100 spans not delivered" in err


@pytest.mark.once
def test_a_backend_without_a_signal(receiver: Receiver) -> None:
    """404 for all: one line for each signal with the reason, the losses counted, no line by OpenTelemetry's logger."""
    with OtlpReceiver() as other:
        env = {
            "SENTRY_DSN": receiver.dsn, "OTEL_TRACES_EXPORTER": "otel_sentry,otlp",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{other.url}/nowhere",
        }  # fmt: skip
        _, err = _run({**env, "SENTRY_TRACES_SAMPLE_RATE": "1"}, "import logging\nlogging.basicConfig()\n" + PROGRAM)
    assert len(receiver.transactions) == 50
    assert err.count("otlp: traces can't be delivered") == 1 and "404" in err
    assert "spans not delivered (" in err and "opentelemetry.exporter" not in err


@pytest.mark.once
def test_a_named_exporter_without_an_endpoint(receiver: Receiver) -> None:
    """A line that says what to set, instead of spans to whoever listens at the default port."""
    env = {"SENTRY_DSN": receiver.dsn, "OTEL_TRACES_EXPORTER": "otel_sentry,otlp/tempo"}
    _, err = _run({**env, "SENTRY_TRACES_SAMPLE_RATE": "1"})
    assert "set OTEL_SENTRY_OTLP_TEMPO_ENDPOINT" in err and len(receiver.transactions) == 50


def test_fork(receiver: Receiver) -> None:
    """Parent and forked child each send their own spans, once, and as different instances."""
    program = """
import os, time
from opentelemetry import trace
tracer = trace.get_tracer("t")
tracer.start_span("before").end()
child = os.fork()
for number in range(20):
    tracer.start_span("child" if child == 0 else "parent").end()
if child == 0:
    import otel_sentry
    otel_sentry.flush(5)
    os._exit(0)
os.waitpid(child, 0)
print(time.time())
"""
    with OtlpReceiver() as one:
        env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": one.url, "OTEL_SENTRY_PRESET": "grafana"}
        _run(env, program)
    names = [span["name"] for span in one.spans]
    assert (names.count("before"), names.count("child"), names.count("parent")) == (1, 20, 20)
    assert len({resource["service.instance.id"] for resource in one.resources}) == 2


@pytest.mark.once
def test_links_between_the_backends(receiver: Receiver) -> None:
    """The issue links to the other backend's trace, and says whether it is there; the span names the issue."""
    program = """
import time, otel_sentry
from opentelemetry import trace
with trace.get_tracer("t").start_as_current_span("job"):
    otel_sentry.capture_custom_exception(ValueError("x"))
print(time.time())
"""
    with OtlpReceiver() as one:
        env = {
            "SENTRY_DSN": receiver.dsn, "OTEL_TRACES_EXPORTER": "otel_sentry,otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": one.url, "OTEL_SENTRY_TRACE_URL": "https://grafana.example/{trace_id}?s={span_id}",
        }  # fmt: skip
        _run(env, program)
    (event,) = receiver.events
    (span,) = one.spans
    url = f"https://grafana.example/{span['trace_id']}?s={span['span_id']}"
    assert event["contexts"]["trace_link"]["url"] == event["tags"]["trace_url"] == url
    assert event["contexts"]["trace_link"]["sampled"] is True
    assert span["attributes"]["sentry.event_id"] == event["event_id"]
