"""The launcher: what a program sees when it runs under `opentelemetry-instrument` with us installed."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from otel_sentry.cli.receiver import Receiver

pytestmark = pytest.mark.services

BIN = pathlib.Path(sys.executable).parent
LAUNCHER = str(BIN / "opentelemetry-instrument")
PROGRAM = """
from opentelemetry import trace
with trace.get_tracer("script").start_as_current_span("job"):
    with trace.get_tracer("script").start_as_current_span("step"):
        pass
print("done")
"""


def run(code: str, env: dict[str, str], *, timeout: float = 60) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run *code* under the launcher; the result and the wall seconds it took."""
    begin = time.monotonic()
    done = subprocess.run(
        [LAUNCHER, sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return done, time.monotonic() - begin


def ours(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of stderr that are ours; there must be no others."""
    lines = done.stderr.splitlines()
    assert all(line.startswith("otel-sentry: ") for line in lines), done.stderr
    return lines


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


def test_dsn_is_the_whole_set_up(receiver: Receiver) -> None:
    """SENTRY_DSN and the launcher: the script's spans arrive as one transaction, and one line says where they go."""
    done, _ = run(PROGRAM, {"SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "development"})
    assert done.stdout == "done\n" and done.returncode == 0
    (line,) = ours(done)
    assert "traces too (rate 1)" in line and "environment development" in line
    (transaction,) = receiver.transactions
    assert transaction["transaction"] == "job"
    assert [span["description"] for span in transaction["spans"]] == ["step"]
    assert transaction["environment"] == "development"


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({}, "off: no SENTRY_DSN"),
        ({"SENTRY_DSN": "https://nonsense"}, "off: SENTRY_DSN can't be used"),
        (
            {"SENTRY_DSN": "https://key@host.invalid/1", "OTEL_SDK_DISABLED": "true"},
            "off: OTEL_SDK_DISABLED=true",
        ),
    ],
)
def test_off_is_one_line(env: dict[str, str], says: str) -> None:
    """Done 5: no DSN, a DSN that does not parse, OTEL_SDK_DISABLED: the program runs as without us, with one line."""
    done, _ = run(PROGRAM, env)
    assert done.stdout == "done\n" and done.returncode == 0
    (line,) = ours(done)
    assert says in line


@pytest.mark.parametrize("kind", ["refused", "silent", "unknown"])
def test_dead_backend_costs_two_seconds_at_most(kind: str, black_hole: int) -> None:
    """Done 5, decision 23: a host that refuses, is silent or does not exist: one line at exit, 2 s at most."""
    host = {"refused": "127.0.0.1:1", "silent": f"127.0.0.1:{black_hole}", "unknown": "host.invalid"}[kind]
    code = PROGRAM + "import sys, time; sys.stdout.flush(); print('end', time.time())"
    done, _ = run(code, {"SENTRY_DSN": f"http://key@{host}/1", "SENTRY_ENVIRONMENT": "dev"})
    took = time.time() - float(done.stdout.split("end ")[1])
    assert done.returncode == 0 and took < 2.5, f"exit took {took:.1f} s"
    lines = ours(done)
    assert any("not delivered" in line for line in lines) and not any("key@" in line for line in lines)
    assert len(lines) <= 3


def test_exit_status_of_sigterm_stays(receiver: Receiver) -> None:
    """Decision 21: on SIGTERM what is there is sent, and the process still dies of SIGTERM."""
    code = PROGRAM + "import sys, time; sys.stdout.flush(); time.sleep(30)"
    process = subprocess.Popen(
        [LAUNCHER, sys.executable, "-c", code.replace("pass", "pass", 1)],
        env={
            **os.environ,
            "SENTRY_DSN": receiver.dsn,
            "SENTRY_ENVIRONMENT": "dev",
            "OTEL_SENTRY_LATE_GRACE": "30",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM
    assert [t["transaction"] for t in receiver.transactions] == ["job"]


def test_errors_of_scripts_threads_and_loggers(receiver: Receiver) -> None:
    """Decision 6: an uncaught exception, one in a thread, a logged one: one issue each, and the caught one none."""
    code = """
import logging, threading
from opentelemetry import trace
tracer = trace.get_tracer("script")
def work():
    with tracer.start_as_current_span("thread job"):
        raise KeyError("in thread")
thread = threading.Thread(target=work); thread.start(); thread.join()
with tracer.start_as_current_span("logged job"):
    try:
        with tracer.start_as_current_span("inner"):
            raise ValueError("logged")
    except ValueError:
        logging.getLogger("app").error("it failed", exc_info=True)
try:
    with tracer.start_as_current_span("caught job"):
        raise OSError("caught")
except OSError:
    pass
with tracer.start_as_current_span("main job"):
    raise RuntimeError("uncaught")
"""
    done, _ = run(code, {"SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "dev"})
    assert done.returncode == 1 and "RuntimeError: uncaught" in done.stderr
    found = {event["exception"]["values"][-1]["value"].strip("'"): event for event in receiver.events}
    assert sorted(found) == ["in thread", "logged", "uncaught"] and len(receiver.events) == 3
    roots = {t["transaction"]: t for t in receiver.transactions}
    for value, job in (("in thread", "thread job"), ("uncaught", "main job"), ("logged", "logged job")):
        assert found[value]["contexts"]["trace"]["trace_id"] == roots[job]["contexts"]["trace"]["trace_id"]
        assert found[value]["transaction"] == job
    inner = roots["logged job"]["spans"][0]["span_id"]
    assert found["logged"]["contexts"]["trace"]["span_id"] == inner


def test_explicit_record_exception_is_an_issue(receiver: Receiver) -> None:
    """Decision 6: the user's own record_exception on the user's own tracer is one (handled) issue."""
    code = """
from opentelemetry import trace
with trace.get_tracer("mine").start_as_current_span("job") as span:
    try:
        1 / 0
    except ZeroDivisionError as error:
        span.record_exception(error)
"""
    done, _ = run(code, {"SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "dev"})
    assert done.returncode == 0, done.stderr
    (event,) = receiver.events
    assert event["exception"]["values"][-1]["mechanism"]["handled"] is True
    (transaction,) = receiver.transactions
    assert transaction["contexts"]["trace"]["data"]["sentry.event_id"] == event["event_id"]


def test_ours_is_the_distro_and_a_broken_instrumentor_is_named(receiver: Receiver, tmp_path: pathlib.Path) -> None:
    """One instrumentor that raises is named once and skipped; those after it still load."""
    broken = tmp_path / "aaa_broken-1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: aaa-broken\nVersion: 1\n")
    (broken / "entry_points.txt").write_text("[opentelemetry_instrumentor]\naaa = aaa_broken:Nope\n")
    (tmp_path / "aaa_broken.py").write_text(
        "class Nope:\n    def instrument(self, **kw):\n        raise RuntimeError('no')\n"
    )
    code = (
        "import redis\nfrom otel_sentry import instrument\n"
        "import opentelemetry.trace as t; print(type(t.get_tracer_provider()).__name__, instrument.status['redis'])"
    )
    env = {"SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "production", "PYTHONPATH": str(tmp_path)}
    done, _ = run(code, env)
    assert done.stdout.split() == ["SentryTracerProvider", "loaded"], done.stderr
    assert [line for line in done.stderr.splitlines() if "aaa is not instrumented" in line]
    assert done.stderr.count("aaa") <= 2


def test_start_up_loads_neither_sentry_sdk_nor_instrumentations() -> None:
    """Decision 23: sentry_sdk and the instrumentors are imported when they are first needed."""
    code = (
        "import sys; print([m for m in sys.modules if m in ('sentry_sdk', 'django', 'redis', 'celery', 'urllib3', "
        "'opentelemetry.instrumentation.django', 'opentelemetry.instrumentation.redis', 'otel_sentry.convention', "
        "'otel_sentry.privacy', 'otel_sentry.sentry.transaction', 'opentelemetry.sdk.metrics', "
        "'opentelemetry.sdk._logs')])"
    )
    done, _ = run(code, {"SENTRY_DSN": "http://key@127.0.0.1:1/1"})
    assert done.stdout.strip() == "[]"


def test_foreign_distro_named_by_the_user_stays(receiver: Receiver) -> None:
    """OTEL_PYTHON_DISTRO set by the user is obeyed; the otel_sentry exporter then works from finished spans."""
    env = {
        "OTEL_PYTHON_DISTRO": "none",
        "OTEL_PYTHON_CONFIGURATOR": "otel_sentry",
        "SENTRY_DSN": receiver.dsn,
        "SENTRY_ENVIRONMENT": "dev",
    }
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_sentry.exporter import SentrySpanExporter
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(SentrySpanExporter()))
with provider.get_tracer("x").start_as_current_span("job"), provider.get_tracer("x").start_as_current_span("step"):
    pass
provider.shutdown()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "plain exporter" in done.stderr
    (transaction,) = receiver.transactions
    assert (transaction["transaction"], len(transaction["spans"])) == ("job", 1)


@pytest.mark.parametrize("with_env", [True, False])
def test_an_app_that_calls_init_itself_keeps_working(receiver: Receiver, with_env: bool) -> None:
    """Decision 14: its hooks and rate count, we send, nothing is doubled; also when only its own call names the DSN."""
    code = f"""
import sentry_sdk
from opentelemetry import trace
def mark(event, hint):
    event.setdefault("tags", {{}})["by"] = "app"
    return event
sentry_sdk.init({receiver.dsn!r}, traces_sample_rate=1.0, before_send=mark, environment="theirs")
with trace.get_tracer("x").start_as_current_span("job"):
    sentry_sdk.capture_message("hello")
"""
    done, _ = run(code, {"SENTRY_DSN": receiver.dsn, "SENTRY_TRACES_SAMPLE_RATE": "0"} if with_env else {})
    assert done.returncode == 0 and "took over the application's sentry_sdk.init" in done.stderr
    (event,) = receiver.events
    assert event["tags"]["by"] == "app" and event["environment"] == "theirs"
    (transaction,) = receiver.transactions
    assert transaction["transaction"] == "job"
    assert transaction["contexts"]["trace"]["trace_id"] == event["contexts"]["trace"]["trace_id"]
