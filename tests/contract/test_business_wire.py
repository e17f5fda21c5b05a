"""Business metrics on the wire: Sentry's items, OTLP, and the report out of a real store."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from otel_sentry import business_metrics
from otel_sentry.business import limits, metrics, worker
from otel_sentry.cli.receiver import Receiver
from otel_sentry.sentry import metrics_v2
from tests.support.client import sentry_sdk_set_up
from tests.support.otlp import OtlpReceiver
from tests.support.sentry_js import assert_js_ok
from tests.support.studio import LAUNCHER
from tests.unit.test_logs import Held

#: Two processes' worth of one, with requests and tasks as instrumentors make them.
PROGRAM = """
import time
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from otel_sentry import business_metrics, tag_business_operation
tracer = trace.get_tracer("t")
with tracer.start_as_current_span("GET /posts/", kind=SpanKind.SERVER) as span:
    span.set_attribute("http.response.status_code", 200)
    business_metrics.track_rollout("editor", "b")
    with tag_business_operation("post_creation", module="posts"):
        business_metrics.track_feature_usage(
            feature_name="post_creator", usage_type="video_created", user_id=USER,
            usage_data={"file_size": 1024, "duration": 30},
        )
    business_metrics.track_conversion_funnel("user_onboarding", "profile_completed", USER, {"signup_source": "google"})
"""


def test_items_as_sentry_reads_them() -> None:
    """Counters, gauges and distributions parse in @sentry/core, with every attribute's type."""
    limits.reset()
    with sentry_sdk_set_up(store="memory") as sentry:
        sentry.runtime.sender = Held()  # type: ignore[assignment]
        with sentry.tracer.start_as_current_span("job"):
            business_metrics.track_conversion_funnel("shop", "paid", 7, {"price": 9.5})
            business_metrics.track_kpi("revenue", 900, unit="EUR", target=1000)
        metrics.settle()
        assert worker.flush(5)
        metrics.drain()
        taken = list(metrics_v2.batcher._open)
        container = metrics_v2.batcher.encode(taken)
        metrics_v2.batcher._reset()
    assert container is not None and len(taken) == 5
    assert_js_ok([container.body])


@pytest.mark.services
@pytest.mark.once
def test_everywhere(receiver: Receiver, valkey_url: str) -> None:
    """With no trace sampled, two processes' values are at Sentry and OTLP; users and the report come from Valkey."""
    with OtlpReceiver() as otlp:
        for user in ("'ann'", "'bob'"):
            env = {
                "SENTRY_DSN": receiver.dsn, "SENTRY_TRACES_SAMPLE_RATE": "0", "SENTRY_ENVIRONMENT": "production",
                "OTEL_SENTRY_STORE": valkey_url, "OTEL_METRICS_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url, "OTEL_SENTRY_METRIC_LABELS": "signup_source",
                "OTEL_SENTRY_SHUTDOWN_TIMEOUT": "20",
            }  # fmt: skip
            _run([LAUNCHER, sys.executable, "-c", PROGRAM.replace("USER", user)], env)
    items: list[Any] = [item for container in receiver.items("trace_metric") for item in container["items"]]
    assert receiver.transactions == []
    at_sentry = {item["name"] for item in items}
    assert {"feature.used", "feature.value", "feature.users", "funnel.step", "rollout.exposure"} <= at_sentry
    assert "app.request.duration" not in at_sentry
    users = [item["value"] for item in items if item["name"] == "feature.users"]
    assert max(users) == 2
    (operation, _) = [item for item in items if item["name"] == "business.operation.duration"]
    assert operation["unit"] == "second" and len(operation["span_id"]) == 16
    assert operation["attributes"]["rollout"]["value"] == "editor=b"
    at_otlp = {metric["name"]: metric for metric in otlp.metrics}
    assert at_sentry | {"app.request.duration"} == set(at_otlp)
    assert {metric["scope"] for metric in otlp.metrics} == {"otel_sentry.business"}
    assert at_otlp["app.request.duration"]["kind"] == "histogram" and at_otlp["app.request.duration"]["unit"] == "s"
    assert at_otlp["funnel.step"]["kind"] == "sum" and at_otlp["feature.users"]["kind"] == "gauge"
    (step,) = at_otlp["funnel.step"]["points"]
    assert {pair.key: pair.value.string_value for pair in step.attributes}["signup_source"] == "google"
    report = _run([sys.executable, "-m", "otel_sentry", "report", "--days", "2"], {"OTEL_SENTRY_STORE": valkey_url})
    assert "       2  post_creator video_created  (up to 2 users a day)" in report.stdout
    assert "request    GET /posts/" in report.stdout and "operation  post_creation" in report.stdout
    assert "2 times" in report.stdout


#: The parent's values wait while it forks; the child and an exit handler have some of their own.
FORKED = """
import atexit, os, threading, warnings
from otel_sentry import business_metrics
from otel_sentry.business import metrics, worker
warnings.simplefilter("ignore")
metrics._asked = worker.queue()  # the worker does not look: what is put down waits
for _ in range(5):
    business_metrics.track_feature_usage("parent", "used")
pid = os.fork()
if pid == 0:
    business_metrics.track_feature_usage("child", "used")
else:
    os.waitpid(pid, 0)
    atexit.register(business_metrics.track_feature_usage, "exit", "used")
"""


@pytest.mark.services
@pytest.mark.once
def test_forks_and_exit(receiver: Receiver) -> None:
    """Values that waited at a fork are the parent's alone; those of the child, and of an exit handler, arrive."""
    _run([LAUNCHER, sys.executable, "-c", FORKED], {"SENTRY_DSN": receiver.dsn, "OTEL_SENTRY_SHUTDOWN_TIMEOUT": "20"})
    items = [item for container in receiver.items("trace_metric") for item in container["items"]]
    used = [item["attributes"]["feature"]["value"] for item in items if item["name"] == "feature.used"]
    assert sorted(used) == ["child", "exit", *["parent"] * 5]


def _run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done
