"""OTEL_SENTRY_TRACE_FORMAT and OTEL_SENTRY_OVERFLOW under the launcher, set by the environment alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support.otlp import OtlpReceiver
from tests.support.sentry_otlp import KEY, SentryWithOtlp
from tests.support.studio import LAUNCHER

pytestmark = pytest.mark.services

PROGRAM = """
import json, logging, sys
from opentelemetry import propagate, trace
tracer = trace.get_tracer("t")
carrier = {}
with tracer.start_as_current_span("job"):
    for number in range(int(sys.argv[1])):
        with tracer.start_as_current_span("step"):
            if not carrier:
                propagate.inject(carrier)
                logging.getLogger("app").error("went wrong")
print(json.dumps(carrier))
"""


def _run(env: dict[str, str], spans: int = 2) -> tuple[dict[str, str], str]:
    done = subprocess.run(
        [LAUNCHER, sys.executable, "-c", PROGRAM, str(spans)],
        env={**os.environ, "SENTRY_ENVIRONMENT": "dev", "SENTRY_RELEASE": "r1", **env},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    carrier: dict[str, str] = eval(done.stdout)
    return carrier, done.stderr


def test_span(receiver: Receiver) -> None:
    """`span`: no transaction; all spans as span v2, with the DSC; the error is an issue of the same trace."""
    carrier, _ = _run({"SENTRY_DSN": receiver.dsn, "OTEL_SENTRY_TRACE_FORMAT": "span"})
    assert receiver.transactions == []
    (container,) = receiver.items("span")
    assert [span["name"] for span in container["items"]] == ["step", "step", "job"]
    trace_id = container["items"][0]["trace_id"]
    (event,) = receiver.events
    assert event["contexts"]["trace"]["trace_id"] == trace_id == carrier["sentry-trace"].split("-")[0]
    (envelope,) = [one for one in receiver.envelopes if one.items[0].type == "span"]
    assert envelope.trace["trace_id"] == trace_id and envelope.trace["public_key"] == receiver.key
    assert envelope.trace["release"] == container["items"][0]["attributes"]["sentry.release"]["value"] == "r1"


def test_overflow(receiver: Receiver) -> None:
    """`OTEL_SENTRY_OVERFLOW=span`: 3000 spans of one root arrive, 1000 in the transaction, none twice, no loss said."""
    _, err = _run({"SENTRY_DSN": receiver.dsn, "OTEL_SENTRY_OVERFLOW": "span"}, 3000)
    (transaction,) = receiver.transactions
    ids = [span["span_id"] for span in transaction["spans"]]
    ids += [span["span_id"] for container in receiver.items("span") for span in container["items"]]
    assert len(transaction["spans"]) == 1000 and len(ids) == len(set(ids)) == 3000
    assert receiver.items("client_report") == [] and "not delivered" not in err


def test_overflow_is_dropped_elsewhere(receiver: Receiver) -> None:
    """The default on a Sentry that is not Sentry's own: 1000 spans, and a client report of the others."""
    _run({"SENTRY_DSN": receiver.dsn}, 1500)
    (transaction,) = receiver.transactions
    assert len(transaction["spans"]) == 1000 and receiver.items("span") == []
    lost = [event for report in receiver.items("client_report") for event in report["discarded_events"]]
    assert lost == [{"reason": "buffer_overflow", "category": "span", "quantity": 500}]


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("form", ["span", "otlp", "transaction"])
def test_more_than_is_buffered(form: str) -> None:
    """25,000 spans of one root, more than a segment buffers: each is sent or counted, none twice, the root once."""
    with SentryWithOtlp() as sentry:
        env = {"OTEL_SENTRY_TRACE_FORMAT": form, "OTEL_SENTRY_OVERFLOW": "span", "OTEL_SENTRY_SHUTDOWN_TIMEOUT": "30"}
        _, err = _run({**env, "SENTRY_DSN": sentry.dsn}, 25_000)
        ids = [span.span_id.hex() for span in sentry.spans]
        for container in sentry.payloads("span"):
            ids += [span["span_id"] for span in container["items"]]
        for event in sentry.payloads("transaction"):
            ids += [event["contexts"]["trace"]["span_id"], *(span["span_id"] for span in event["spans"])]
        reports = [event for report in sentry.payloads("client_report") for event in report["discarded_events"]]
        lost = sum(event["quantity"] for event in reports if event["reason"] == "buffer_overflow")
        # A loop this tight may leave no time to send parts: then it is the buffer's 10,000, less what was thinned out.
        assert len(ids) == len(set(ids)) == 25_001 - lost > 9_000, err
        assert {event["reason"] for event in reports} <= {"buffer_overflow"} and "not delivered" not in err


@pytest.fixture
def sentry() -> Any:
    with SentryWithOtlp() as one:
        yield one


def test_otlp(sentry: SentryWithOtlp) -> None:
    """`otlp`: spans by OTLP only, the DSC still travels, the error is an issue of the same trace."""
    carrier, _ = _run({"SENTRY_DSN": sentry.dsn, "OTEL_SENTRY_TRACE_FORMAT": "otlp"})
    assert sentry.payloads("transaction") == sentry.payloads("span") == []
    assert sorted(span.name for span in sentry.spans) == ["job", "step", "step"]
    trace_id = sentry.spans[0].trace_id.hex()
    (event,) = sentry.payloads("event")
    assert event["contexts"]["trace"]["trace_id"] == trace_id
    assert carrier["sentry-trace"].startswith(trace_id) and carrier["sentry-trace"].endswith("-1")
    assert f"sentry-public_key={KEY}" in carrier["baggage"] and "sentry-release=r1" in carrier["baggage"]


def test_otlp_beside_another_backend(sentry: SentryWithOtlp) -> None:
    """Two OTLP backends: each gets the spans once, and neither gets the other's headers or endpoint."""
    with OtlpReceiver() as other:
        env = {
            "SENTRY_DSN": sentry.dsn,
            "OTEL_SENTRY_TRACE_FORMAT": "otlp",
            "OTEL_TRACES_EXPORTER": "otel_sentry,otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": other.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=other-backend",
        }
        _run(env)
        assert len(other.spans) == len(sentry.spans) == 3
        assert {span["span_id"] for span in other.spans} == {span.span_id.hex() for span in sentry.spans}
    assert all("api-key" not in headers and "other" not in str(headers) for headers in sentry.headers)


def test_otlp_only_what_sentry_keeps(sentry: SentryWithOtlp) -> None:
    """Sentry's rate 0 beside another backend in full: Sentry's intake gets nothing, the error arrives."""
    with OtlpReceiver() as other:
        env = {"OTEL_TRACES_EXPORTER": "otel_sentry,otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": other.url}
        _run({**env, "SENTRY_DSN": sentry.dsn, "OTEL_SENTRY_TRACE_FORMAT": "otlp", "SENTRY_TRACES_SAMPLE_RATE": "0"})
        assert len(other.spans) == 3
    assert sentry.spans == [] and len(sentry.payloads("event")) == 1
    lost = [event for report in sentry.payloads("client_report") for event in report["discarded_events"]]
    assert {"reason": "sample_rate", "category": "transaction", "quantity": 1} in lost
