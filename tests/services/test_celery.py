"""Celery with a real worker and a real broker."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import celery
import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support.jobs import APP, LAUNCHER, launched
from tests.support.relay import assert_relay_ok

pytestmark = pytest.mark.services
ROOT = pathlib.Path(__file__).parents[2]


class Jobs(NamedTuple):
    """A running worker on a queue of its own, on stock OpenTelemetry."""

    environ: dict[str, str]
    file: pathlib.Path

    def run(self, code: str) -> str:
        """Run *code* as a client, with the application imported."""
        source = "from stock import app, trace; import jobs\n" + textwrap.dedent(code)
        result = subprocess.run(
            [sys.executable, "-c", source],
            env=self.environ,
            cwd=APP,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def span(self, name: str, kind: str = "CONSUMER", count: int = 1) -> list[dict[str, Any]]:
        """Wait for *count* spans of that name."""
        deadline = time.monotonic() + 20
        while True:
            found = [row for row in self.rows() if row.get("name") == name and row["span_kind"] == kind]
            if len(found) >= count or time.monotonic() > deadline:
                assert len(found) == count, self.rows()
                return found
            time.sleep(0.05)

    def errors(self) -> list[dict[str, Any]]:
        return [row for row in self.rows() if row["kind"] == "error"]


def environ(valkey_url: str, tmp_path: pathlib.Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "instrumentation"), str(APP)]),
        "JOBS_BROKER": valkey_url,
        "JOBS_BACKEND": valkey_url,
        "JOBS_QUEUE": f"jobs-{uuid.uuid4().hex[:8]}",
        "STOCK_SPANS": str(tmp_path / "rows"),
    }


@pytest.fixture(scope="module")
def jobs(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """One worker process with a pool of one child."""
    folder = tmp_path_factory.mktemp("jobs")
    env = environ(valkey_url, folder)
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "stock",
        "worker",
        "--pool=prefork",
        "--concurrency=1",
        "-E",
    ]
    with (folder / "log").open("w") as log:
        worker = subprocess.Popen(command, env=env, cwd=APP, stdout=log, stderr=log)
    try:
        yield Jobs(env, folder / "rows")
    finally:
        worker.terminate()
        worker.wait(30)
        print((folder / "log").read_text())


def test_publish_and_run_are_one_trace_with_queue_attributes(jobs: Jobs) -> None:
    """Both sides name system, queue and message; the run knows how long the message waited."""
    jobs.run("jobs.add.delay(1, 2)")
    run = jobs.span("run/jobs.add")[0]
    publish = jobs.span("apply_async/jobs.add", "PRODUCER")[0]
    queue = jobs.environ["JOBS_QUEUE"]
    assert (run["trace_id"], run["parent"]) == (publish["trace_id"], publish["span_id"])
    for span in (run, publish):
        assert span["attributes"]["messaging.system"] == "redis"
        assert span["attributes"]["messaging.destination.name"] == queue
        assert span["attributes"]["messaging.message.id"] == run["attributes"]["messaging.message.id"]
    assert run["attributes"]["messaging.message.retry.count"] == 0
    assert 0 <= run["attributes"]["messaging.message.receive.latency"] < 20_000
    assert run["attributes"]["celery.task_name"] == "jobs.add"


def test_a_failure_is_reported_inside_the_run(jobs: Jobs) -> None:
    """The exception reaches the seam once, while the CONSUMER span is the current one."""
    jobs.run("jobs.fail.delay('inside')")
    run = jobs.span("run/jobs.fail")[0]
    found = [row for row in jobs.errors() if row["text"] == "inside"]
    assert [(row["type"], row["mechanism"], row["span_id"]) for row in found] == [
        ("ValueError", "celery", run["span_id"])
    ]
    assert run["status"] == "ERROR"


def test_an_exception_that_cant_be_pickled_is_reported_itself(jobs: Jobs) -> None:
    """Celery passes a stand-in to its signal; the issue shows the real exception."""
    jobs.run("jobs.fail_unpicklable.delay()")
    jobs.span("run/jobs.fail_unpicklable")
    assert [row["text"] for row in jobs.errors() if row["type"] == "Unpicklable"] == ["one"]


@pytest.mark.parametrize("name", ["fail_as_planned", "ignore", "reject"])
def test_what_is_planned_is_no_failure(jobs: Jobs, name: str) -> None:
    """`throws`, Ignore and Reject are no issue and no ERROR status."""
    before = len(jobs.errors())
    jobs.run(f"jobs.{name}.delay()")
    assert jobs.span(f"run/jobs.{name}")[0]["status"] == "UNSET"
    assert len(jobs.errors()) == before


def test_retry(jobs: Jobs) -> None:
    """A retry is no issue; the second run counts it, in the same trace, with a latency of its own."""
    before = len(jobs.errors())
    jobs.run("jobs.retry_once.delay()")
    first, second = jobs.span("run/jobs.retry_once", count=2)
    counts = [run["attributes"]["messaging.message.retry.count"] for run in (first, second)]
    assert counts == [0, 1]
    assert first["trace_id"] == second["trace_id"]
    assert second["attributes"]["messaging.message.receive.latency"] >= 50
    assert len(jobs.errors()) == before


def test_time_limit(jobs: Jobs) -> None:
    """A task killed at its hard time limit is one issue, from the main process, in the publisher's trace."""
    jobs.run("jobs.too_slow.delay()")
    deadline = time.monotonic() + 20
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < deadline:
        time.sleep(0.5)
        found = [row for row in jobs.errors() if row["type"] == "TimeLimitExceeded"]
    assert len(found) == 1
    if celery.VERSION >= (5, 7):  # before it, the signal comes without the message
        assert found[0]["span_id"] == jobs.span("apply_async/jobs.too_slow", "PRODUCER")[0]["span_id"]


def test_send_task_by_name(jobs: Jobs) -> None:
    """Publishing a task that this process does not know is a span that lasts as long as the sending."""
    jobs.run("app.send_task('elsewhere.work', queue='jobs-elsewhere')")
    span = jobs.span("apply_async/elsewhere.work", "PRODUCER")[0]
    assert span["attributes"]["messaging.destination.name"] == "jobs-elsewhere"
    assert span["ms"] > 0.3


def test_a_broker_that_is_down_leaves_no_span_behind(jobs: Jobs) -> None:
    """The PRODUCER span ends as failed, and the span around it is the current one again."""
    printed = jobs.run("""
        from celery import chain, group
        tracer = trace.get_tracer("test")
        app.conf.broker_url = "redis://127.0.0.1:9/0"
        app.conf.task_publish_retry = False
        app.conf.task_ignore_result = True
        with tracer.start_as_current_span("around") as around:
            for known in (
                jobs.eager.delay, lambda: app.send_task("elsewhere.down"),
                chain(jobs.eager.si(), jobs.add.si(1, 1)), group(jobs.eager.si(), jobs.add.si(1, 1)),
            ):
                try:
                    known()
                except Exception as exc:
                    print(type(exc).__name__, trace.get_current_span() is around)
        print(jobs.eager.__dict__.get("__otel_task_span"))
    """)
    assert printed.split() == ["OperationalError", "True"] * 4 + ["{}"]
    assert jobs.span("apply_async/elsewhere.down", "PRODUCER")[0]["status"] == "ERROR"


def test_eager_task_is_a_child_of_its_caller(jobs: Jobs) -> None:
    """`apply()` runs as a CONSUMER span below the current one, without a broker's attributes."""
    printed = jobs.run("""
        with trace.get_tracer("test").start_as_current_span("around") as around:
            jobs.eager.apply(task_id="eager-one")
            print(around.get_span_context().span_id)
    """)
    eager = [row for row in jobs.rows() if row.get("attributes", {}).get("messaging.message.id") == "eager-one"]
    assert [row["parent"] for row in eager] == [int(printed)]
    assert "messaging.system" not in eager[0]["attributes"]


POOLS = {
    "prefork": ["--pool=prefork", "--concurrency=2"],
    "max-tasks-per-child": ["--pool=prefork", "--concurrency=1", "--max-tasks-per-child=1"],
    "solo": ["--pool=solo"],
    "threads": ["--pool=threads", "--concurrency=2"],
    "gevent": ["--pool=gevent", "--concurrency=2"],
}


def worker(env: dict[str, str], arguments: list[str], log: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """A worker under the launcher."""
    return launched(["-A", "jobs", "worker", *arguments], env, log)


@pytest.mark.parametrize("pool", POOLS)
def test_pools(receiver: Receiver, valkey_url: str, tmp_path: pathlib.Path, pool: str) -> None:
    """Under the launcher: publisher and task are one trace, each failure is one issue, nothing is lost."""
    env = environ(valkey_url, tmp_path)
    env |= {"SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "development", "SENTRY_RELEASE": "jobs@1"}
    code = """if True:
        import jobs
        from opentelemetry import trace
        with trace.get_tracer("client").start_as_current_span("publisher"):
            for number in range(3):
                jobs.add.delay(number, number)
            jobs.fail.delay("under the launcher")
            jobs.fail_unpicklable.delay()
    """
    with worker(env, POOLS[pool], tmp_path / "log"):
        subprocess.run([str(LAUNCHER), sys.executable, "-c", code], env=env, cwd=APP, check=True, timeout=60)
        tasks = {"jobs.add": 3, "jobs.fail": 1, "jobs.fail_unpicklable": 1}
        receiver.wait_for(lambda one: count(one, "task") == tasks and len(one.events) >= 2, timeout=30)
    (publisher,) = [item for item in receiver.transactions if item["transaction"] == "publisher"]
    runs = [item for item in receiver.transactions if item["transaction_info"]["source"] == "task"]
    published = {span["span_id"] for span in publisher["spans"] if span["op"] == "queue.publish"}
    assert len(published) == 5
    assert {run["contexts"]["trace"]["parent_span_id"] for run in runs} == published
    assert {run["contexts"]["trace"]["op"] for run in runs} == {"queue.process"}
    traces = {item["contexts"]["trace"]["trace_id"] for item in (publisher, *runs, *receiver.events)}
    assert len(traces) == 1
    by_text = {event["exception"]["values"][-1]["value"]: event for event in receiver.events}
    assert sorted(by_text) == ["one", "under the launcher"]
    assert len(receiver.events) == 2
    for event in receiver.events:
        assert event["exception"]["values"][-1]["mechanism"]["type"] == "celery"
        assert event.get("transaction") in ("jobs.fail", "jobs.fail_unpicklable"), event
    for item in (*receiver.transactions, *receiver.events):
        assert_relay_ok(item)


def count(receiver: Receiver, source: str) -> dict[str, int]:
    names = [item["transaction"] for item in receiver.transactions if item["transaction_info"]["source"] == source]
    return {name: names.count(name) for name in names}
