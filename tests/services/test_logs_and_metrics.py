"""Logs and metrics of real programs under the launcher, at Sentry and at an OTLP receiver."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support.otlp import OtlpReceiver
from tests.support.studio import LAUNCHER

pytestmark = pytest.mark.services

MANY = """
import logging, threading
from opentelemetry import trace
log = logging.getLogger("shop")
log.setLevel("INFO")
log.addHandler(logging.NullHandler())
def work(number):
    with trace.get_tracer("t").start_as_current_span("job") as span:
        own = f"{span.get_span_context().span_id:016x}"
        for line in range(1250):
            log.info("line %d of %d", line, number, extra={"own": own})
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""

BOTH = """
import logging
from opentelemetry import metrics, trace
from otel_sentry.sentry import metrics_v2
meter = metrics.get_meter("app")
with trace.get_tracer("t").start_as_current_span("job"):
    logging.getLogger("shop").warning("paid %s, password=%s", 7, "hunter2", extra={"plan": "pro"})
    meter.create_counter("jobs").add(3, {"kind": "x"})
    metrics.get_meter("otel_sentry.business").create_counter("funnel").add(1)
    metrics_v2.record("funnel", "counter", 1, attributes={"step": "pay"})
"""

NOTHING = """
import sys
import logging
from opentelemetry import metrics, trace
with trace.get_tracer("t").start_as_current_span("job"):
    logging.getLogger("shop").warning("hello")
print(logging.getLogger().handlers, [m for m in ("opentelemetry.sdk.metrics", "opentelemetry.sdk._logs",
    "otel_sentry.logs", "otel_sentry.sentry.logs_v2") if m in sys.modules])
"""


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as one:
        yield one


def _run(program: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [LAUNCHER, sys.executable, "-c", program], env={**os.environ, "SENTRY_ENVIRONMENT": "dev", **env},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def _items(receiver: Receiver, kind: str) -> list[dict[str, object]]:
    return [item for container in receiver.items(kind) for item in container["items"]]


def test_ten_thousand_lines(receiver: Receiver) -> None:
    """8 threads, 10,000 lines, exit at once: all arrive or are counted, each with its own span's ids, 100 a batch."""
    _run(MANY, {"SENTRY_DSN": receiver.dsn, "OTEL_SENTRY_LOGS": "1", "OTEL_SENTRY_SHUTDOWN_TIMEOUT": "20"})
    logs = _items(receiver, "log")
    lost = sum(
        event["quantity"] for report in receiver.items("client_report") for event in report["discarded_events"]
        if event["category"] == "log_item"
    )  # fmt: skip
    assert len(logs) + lost == 10_000 and len(logs) > 5_000
    traces = {root["span_id"]: root["trace_id"] for t in receiver.transactions for root in [t["contexts"]["trace"]]}
    assert len(traces) == 8
    for log in logs:
        assert log["span_id"] == log["attributes"]["own"]["value"]  # type: ignore[index]
        assert log["trace_id"] == traces[log["span_id"]]
    assert max(len(container["items"]) for container in receiver.items("log")) <= 100


def test_otlp_too(receiver: Receiver, otlp: OtlpReceiver) -> None:
    """Both backends: the same record and ids, scrubbed, no header of Sentry's at OTLP, one release on all."""
    _run(BOTH, {
        "SENTRY_DSN": receiver.dsn, "SENTRY_RELEASE": "r1", "OTEL_SENTRY_LOGS": "1", "OTEL_SENTRY_METRICS": "all",
        "OTEL_LOGS_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=acme",
    })  # fmt: skip
    (transaction,) = receiver.transactions
    root = transaction["contexts"]["trace"]
    ids = (root["trace_id"], root["span_id"])
    (log,) = _items(receiver, "log")
    (line,) = otlp.logs
    assert (log["trace_id"], log["span_id"]) == (line["trace_id"], line["span_id"]) == ids
    assert log["body"] == line["body"] == "paid 7, password=[Filtered]" and "hunter2" not in str((log, line))
    assert (line["logger"], line["level"], line["severity_number"]) == ("shop", "WARN", 13)
    assert line["attributes"]["plan"] == "pro"
    scopes = {metric["name"]: metric["scope"] for metric in otlp.metrics}
    assert scopes == {"jobs": "app", "funnel": "otel_sentry.business"}
    at_sentry = _items(receiver, "trace_metric")
    assert sorted(item["name"] for item in at_sentry) == ["funnel", "jobs"]  # type: ignore[type-var]
    assert all((item["trace_id"], item["span_id"]) == ids for item in at_sentry)
    assert {resource["service.version"] for resource in otlp.resources} == {"r1"}
    assert {path for path, _ in otlp.requests} == {"/v1/logs", "/v1/metrics"}
    for _, headers in otlp.requests:
        assert headers["x-tenant"] == "acme"
        assert not {name for name in headers if "sentry" in name or name == "traceparent"}


def test_otlp_logs_without_a_dsn(otlp: OtlpReceiver) -> None:
    """Decision 5: without a DSN the other sinks run."""
    done = _run(BOTH, {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url})
    (line,) = otlp.logs
    assert len(line["trace_id"]) == 32 and line["trace_id"] != "0" * 32
    assert "logs to otlp" in done.stderr


def test_nothing_by_default(receiver: Receiver) -> None:
    """Unset: no handler on the root logger, none of the SDK's logs and metrics is even imported, no item leaves."""
    done = _run(NOTHING, {"SENTRY_DSN": receiver.dsn})
    assert done.stdout.strip() == "[] []"
    assert _items(receiver, "log") == _items(receiver, "trace_metric") == []


def test_exit_budget(receiver: Receiver) -> None:
    """OTLP at a host that never answers costs half of the exit budget at most, and Sentry still gets all."""
    import socket

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        env = {
            "OTEL_LOGS_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_SENTRY_LOGS": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{deaf.getsockname()[1]}",
        }  # fmt: skip
        done = _run(BOTH + "import time\nprint(time.time())", {**env, "SENTRY_DSN": receiver.dsn})
        exit_s = time.time() - float(done.stdout)
    assert exit_s < 4, done.stderr  # the budget is 2 s; the machine may be busy
    assert len(_items(receiver, "log")) == 1 and len(receiver.transactions) == 1


def test_fork(receiver: Receiver) -> None:
    """Parent and forked child each send their own lines, once, with the ids of the span they were written in."""
    program = """
import logging, os
from opentelemetry import trace
log = logging.getLogger("shop")
with trace.get_tracer("t").start_as_current_span("job"):
    log.warning("before")
    child = os.fork()
    log.warning("child" if child == 0 else "parent")
if child:
    os.waitpid(child, 0)
"""
    _run(program, {"SENTRY_DSN": receiver.dsn, "OTEL_SENTRY_LOGS": "1"})
    logs = _items(receiver, "log")
    assert sorted(str(log["body"]) for log in logs) == ["before", "child", "parent"]
    assert len({(log["trace_id"], log["span_id"]) for log in logs}) == 1


def test_an_app_with_logs_in_its_own_init(receiver: Receiver) -> None:
    """`sentry_sdk.init(enable_logs=True)`: one item a record with ours on, and the app's own logs with ours off."""
    program = """
import logging, sentry_sdk
sentry_sdk.init(enable_logs=True)
logging.getLogger("shop").warning("hello")
"""
    for env in ({"OTEL_SENTRY_LOGS": "1"}, {}):
        receiver.clear()
        _run(program, {"SENTRY_DSN": receiver.dsn, **env})
        assert [log["body"] for log in _items(receiver, "log")] == ["hello"], env


def test_rate_limit(receiver: Receiver) -> None:
    """A limit on log items holds back logs only, and the losses are in a client report."""
    program = """
import logging, time, otel_sentry
from opentelemetry import trace
log = logging.getLogger("shop")
for number in range(3):
    log.warning("line")
    otel_sentry.flush(5)
with trace.get_tracer("t").start_as_current_span("job"):
    pass
"""
    receiver.answer(200, {"X-Sentry-Rate-Limits": "60:log_item:key"})
    _run(program, {"SENTRY_DSN": receiver.dsn, "OTEL_SENTRY_LOGS": "1"})
    assert len(_items(receiver, "log")) == 1 and len(receiver.transactions) == 1
    losses = [event for report in receiver.items("client_report") for event in report["discarded_events"]]
    assert {"reason": "ratelimit_backoff", "category": "log_item", "quantity": 2} in losses


def test_configure_from_code(receiver: Receiver) -> None:
    """`configure(logs=True)`, also as a later call, turns logs on; False turns them off again."""
    program = f"""
import logging, otel_sentry
log = logging.getLogger("shop")
otel_sentry.configure(dsn={receiver.dsn!r}, environment="dev", instrument=False)
log.warning("one")
otel_sentry.configure(logs=True, logs_level="error")
log.warning("two")
log.error("three")
otel_sentry.configure(logs=False)
log.error("four")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [log["body"] for log in _items(receiver, "log")] == ["three"]


def test_metrics_to_otlp_only(otlp: OtlpReceiver) -> None:
    """OTEL_METRICS_EXPORTER=otlp without a DSN: instruments arrive at exit, with the service's name."""
    _run(BOTH, {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url, "OTEL_SERVICE_NAME": "shop"})
    (jobs,) = [metric for metric in otlp.metrics if metric["name"] == "jobs"]
    assert [point.as_int for point in jobs["points"]] == [3]
    assert otlp.resources[0]["service.name"] == "shop" and otlp.logs == []
