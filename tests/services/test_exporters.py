"""Decision 5: which exporter and propagator settings mean what."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support.otlp import OtlpReceiver
from tests.support.studio import LAUNCHER

pytestmark = pytest.mark.services

PROGRAM = """
import logging
from opentelemetry import propagate, trace
with trace.get_tracer("t").start_as_current_span("job"):
    with trace.get_tracer("t").start_as_current_span("step"):
        carrier = {}
        propagate.inject(carrier)
        print(carrier)
        logging.getLogger("app").error("went wrong")
"""


def _run(env: dict[str, str], program: str = PROGRAM) -> tuple[dict[str, str], str]:
    done = subprocess.run(
        [LAUNCHER, sys.executable, "-c", program], env={**os.environ, "SENTRY_ENVIRONMENT": "dev", **env},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    carrier: dict[str, str] = eval(done.stdout)
    return carrier, done.stderr


@pytest.fixture
def otlp() -> Any:
    with OtlpReceiver() as one:
        yield one


def test_both(receiver: Receiver, otlp: OtlpReceiver) -> None:
    """`otel_sentry,otlp`: the same spans at both, Sentry's carrier attributes at neither, one release."""
    env = {"OTEL_TRACES_EXPORTER": "otel_sentry,otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url, "SENTRY_RELEASE": "r1"}
    _run({**env, "SENTRY_DSN": receiver.dsn})
    (transaction,) = receiver.transactions
    root = transaction["contexts"]["trace"]
    ids = {root["span_id"], *(span["span_id"] for span in transaction["spans"])}
    assert ids == {span["span_id"] for span in otlp.spans} and len(ids) == 2
    assert not any(
        key.startswith("sentry.") and key != "sentry.event_id" for s in otlp.spans for key in s["attributes"]
    )
    assert otlp.resources[0]["service.version"] == transaction["release"] == "r1"
    assert otlp.resources[0]["deployment.environment.name"] == transaction["environment"] == "dev"
    assert len(receiver.events) == 1


def test_sentry_at_zero_and_otlp_in_full(receiver: Receiver, otlp: OtlpReceiver) -> None:
    """Decision 1: the W3C flag is the OR of all gates, Sentry's own decision is in sentry-trace only."""
    env = {"OTEL_TRACES_EXPORTER": "otel_sentry,otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url}
    carrier, _ = _run({**env, "SENTRY_DSN": receiver.dsn, "SENTRY_TRACES_SAMPLE_RATE": "0"})
    assert receiver.transactions == [] and len(otlp.spans) == 2
    assert carrier["sentry-trace"].endswith("-0") and int(carrier["traceparent"][-2:], 16) & 1


def test_otlp_alone_leaves_errors_direct(receiver: Receiver, otlp: OtlpReceiver) -> None:
    """`otlp`: traces only by OTLP (no double spans for a Collector that feeds Sentry), errors still issues."""
    env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url}
    _run({**env, "SENTRY_DSN": receiver.dsn})
    assert receiver.transactions == [] and len(otlp.spans) == 2
    (event,) = receiver.events
    assert event["contexts"]["trace"]["trace_id"] == otlp.spans[0]["trace_id"]


def test_none_is_errors_only(receiver: Receiver) -> None:
    """`none`: no traces, the error is an issue."""
    _run({"OTEL_TRACES_EXPORTER": "none", "SENTRY_DSN": receiver.dsn})
    assert receiver.transactions == [] and len(receiver.events) == 1


def test_otlp_without_dsn(otlp: OtlpReceiver) -> None:
    """Without a DSN the other sinks run; one line says so."""
    _, err = _run({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url})
    assert len(otlp.spans) == 2 and err.count("otel-sentry:") == 1


def test_users_propagators_are_obeyed(receiver: Receiver) -> None:
    """OTEL_PROPAGATORS without ours: obeyed, with one line; with ours among them: the same as our default."""
    carrier, err = _run({"SENTRY_DSN": receiver.dsn, "OTEL_PROPAGATORS": "tracecontext"})
    assert set(carrier) <= {"traceparent", "tracestate"} and "OTEL_PROPAGATORS lacks otel_sentry" in err
    ours, _ = _run({"SENTRY_DSN": receiver.dsn, "OTEL_PROPAGATORS": "tracecontext,baggage,otel_sentry"})
    assert {"sentry-trace", "baggage", "traceparent"} <= set(ours)


@pytest.mark.parametrize(("sampler", "kept"), [("always_off", 0), ("always_on", 1)])
def test_users_sampler_decides_for_sentry(receiver: Receiver, sampler: str, kept: int) -> None:
    """OTEL_TRACES_SAMPLER set by the user decides for Sentry, through ours."""
    carrier, _ = _run({"SENTRY_DSN": receiver.dsn, "OTEL_TRACES_SAMPLER": sampler, "SENTRY_TRACES_SAMPLE_RATE": "0.5"})
    assert len(receiver.transactions) == kept
    assert carrier["sentry-trace"].endswith(f"-{kept}")


def test_missing_exporter_is_named(receiver: Receiver) -> None:
    """An exporter that is not installed: one line that says what to do; Sentry still gets its traces."""
    _, err = _run({"SENTRY_DSN": receiver.dsn, "OTEL_TRACES_EXPORTER": "otel_sentry,zipkin"})
    assert "OTEL_TRACES_EXPORTER=zipkin" in err and len(receiver.transactions) == 1


def test_users_processor_runs_before_ours(receiver: Receiver, tmp_path: Any) -> None:
    """OTEL_SENTRY_SPAN_PROCESSORS: what it sets arrives; one that raises does not break the program."""
    (tmp_path / "mine.py").write_text(
        "from opentelemetry.sdk.trace import SpanProcessor\n"
        "class Tenant(SpanProcessor):\n"
        "    def on_start(self, span, parent_context=None):\n"
        "        span.set_attribute('tenant', 'acme')\n"
        "class Broken(SpanProcessor):\n"
        "    def on_end(self, span):\n"
        "        raise RuntimeError('broken')\n"
    )
    env = {"PYTHONPATH": str(tmp_path), "OTEL_SENTRY_SPAN_PROCESSORS": "mine:Tenant,mine:Broken"}
    _, err = _run({**env, "SENTRY_DSN": receiver.dsn})
    (transaction,) = receiver.transactions
    assert transaction["contexts"]["trace"]["data"]["tenant"] == "acme"
    assert "span processor Broken" in err


def test_configure_joins_a_provider_of_the_users(receiver: Receiver) -> None:
    """Decision 4: configure() with the user's own provider: its sampler stays, one line says so, traces arrive."""
    code = f"""
import otel_sentry
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider()
otel_sentry.configure(dsn={receiver.dsn!r}, environment="dev", tracer_provider=provider, instrument=False)
otel_sentry.configure(dsn={receiver.dsn!r}, environment="dev", tracer_provider=provider, instrument=False)
with provider.get_tracer("x").start_as_current_span("job"):
    carrier = {{}}
    propagate.inject(carrier)
print(carrier)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("keeps its own sampler") == 1
    assert [t["transaction"] for t in receiver.transactions] == ["job"]
    carrier = eval(done.stdout)
    assert carrier["sentry-trace"].endswith("-1") and "sentry-sampled=true" in carrier["baggage"]


def test_public_parts_on_a_stock_provider(receiver: Receiver) -> None:
    """business.md 1: sampler, processor and propagator on a stock provider, put together by hand."""
    code = f"""
from opentelemetry.sdk.trace import TracerProvider
from otel_sentry import SentryPropagator, SentrySampler, SentrySpanProcessor
provider = TracerProvider(sampler=SentrySampler(traces_sample_rate=1.0))
provider.add_span_processor(SentrySpanProcessor(dsn={receiver.dsn!r}, environment="dev"))
carrier = {{}}
with provider.get_tracer("x").start_as_current_span("job"):
    with provider.get_tracer("x").start_as_current_span("step"):
        SentryPropagator().inject(carrier)
print(carrier)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (transaction,) = receiver.transactions
    assert (transaction["transaction"], len(transaction["spans"])) == ("job", 1)
    assert "sentry-trace" in eval(done.stdout)
