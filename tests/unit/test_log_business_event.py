"""`log_business_event`: one record, one span event, one breadcrumb, one Sentry log, one OTLP log; never more."""

from __future__ import annotations

import logging
import time
import timeit
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

import otel_sentry
from otel_sentry import ambient, log_business_event, signals
from otel_sentry.business import events
from otel_sentry.sentry import hooks, logs_v2
from otel_sentry.trace.segment import current_segment
from tests.support.client import Sentry, sentry_sdk_set_up
from tests.support.odd import Odd


class Keeping(logging.Handler):
    """A handler of the application's."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def handler() -> Iterator[Keeping]:
    one = Keeping()
    events.LOGGER.addHandler(one)
    events.LOGGER.setLevel(logging.INFO)
    logs_v2.batcher._reset()
    yield one
    logs_v2.batcher._reset()
    events.LOGGER.removeHandler(one)
    events.LOGGER.setLevel(logging.NOTSET)
    signals._to_sentry, signals._logger_provider = False, None


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with sentry_sdk_set_up(logs=True) as one:
        signals.install(one.runtime)
        yield one


def logs(sentry: Sentry) -> list[dict[str, Any]]:
    logs_v2.batcher.flush()
    found = [body for one in sentry.sender.envelopes for head, body in one.items if head["type"] == "log"]
    return [item for container in found for item in container["items"]]


def crumbs(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [crumb for crumb in event["breadcrumbs"]["values"] if crumb["message"] == "post_published"]


def test_one_of_each(sentry: Sentry, handler: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record, span event, breadcrumb of a later error, Sentry log and OTLP log: one of each, joined to the trace."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(signals, "_logger_provider", provider)
    with sentry.tracer.start_as_current_span("POST /posts/") as span:
        log_business_event("warm up")  # by now sentry_sdk's own logging integration is there
        otel_sentry.capture_custom_exception(ValueError("first"))
        log_business_event("post_published", {"kind": "video", "size": 3})
        otel_sentry.capture_custom_exception(ValueError("second"))
    context = span.get_span_context()
    assert [record.getMessage() for record in handler.records] == ["warm up", "post_published"]
    (happened,) = [event for event in span.events if event.name == "post_published"]  # type: ignore[attr-defined]
    assert dict(happened.attributes or {}) == {"kind": "video", "size": 3}
    (crumb,) = crumbs(sentry.events[-1])
    assert (crumb["category"], crumb["level"], crumb["data"]) == ("business", "info", {"kind": "video", "size": 3})
    (log,) = [log for log in logs(sentry) if log["body"] == "post_published"]
    assert (log["trace_id"], log["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    values = {key: one["value"] for key, one in log["attributes"].items()}
    assert (values["business_event"], values["data.kind"], values["data.size"]) == ("post_published", "video", 3)
    assert values["logger.name"] == "otel_sentry.business"
    sent = [one.log_record for one in exporter.get_finished_logs() if one.log_record.body == "post_published"]
    assert [(one.trace_id, one.attributes["data.kind"]) for one in sent] == [(context.trace_id, "video")]  # type: ignore[index]


def test_the_record(sentry: Sentry, handler: Keeping) -> None:
    """It names the caller's line, has the data, and trace, user and operation by the filter."""
    with sentry.tracer.start_as_current_span("job"), otel_sentry.tag_business_operation("publishing", module="posts"):
        otel_sentry.set_user({"id": 7})
        log_business_event("post_published", {"kind": "video"}, level="warning")
        otel_sentry.TraceContextFilter().filter(handler.records[0])
    (record,) = handler.records
    assert record.levelno == logging.WARNING and record.funcName == "test_the_record"
    assert record.pathname == __file__ and vars(record)["data.kind"] == "video"
    assert (vars(record)["user_id"], vars(record)["business_operation"]) == ("7", "publishing")


def test_operation_and_user_on_the_log(sentry: Sentry) -> None:
    """The Sentry log has the operation and the user; a user given to the call wins, for this one event."""
    with sentry.tracer.start_as_current_span("job"), otel_sentry.tag_business_operation("publishing", module="posts"):
        otel_sentry.set_user({"id": 7})
        log_business_event("a")
        log_business_event("b", user={"id": 8, "user_type": "admin", "email": "bob@example.com"})
        assert ambient.current().user == {"id": 7}
    first, second = ({key: one["value"] for key, one in log["attributes"].items()} for log in logs(sentry))
    assert (first["user.id"], second["user.id"], second["user_type"]) == ("7", "8", "admin")
    assert first["business.operation"] == second["business.operation"] == "publishing"
    assert "user.email" not in second


def test_secrets(sentry: Sentry, handler: Keeping) -> None:
    """Data is scrubbed before anybody has it, the application's own handlers too."""
    with sentry.tracer.start_as_current_span("job") as span:
        log_business_event("login", {"password": "hunter2", "note": "mail bob@example.com", "ok": True})
        otel_sentry.capture_custom_exception(ValueError("later"))
    told = repr([vars(record) for record in handler.records]) + repr(span.events) + repr(sentry.unchecked)  # type: ignore[attr-defined]
    assert "hunter2" not in told + repr(logs(sentry)) and "bob@" not in told
    assert vars(handler.records[0])["data.ok"] is True


def test_logger_that_is_off(sentry: Sentry, handler: Keeping) -> None:
    """Under the root's WARNING, or disabled by dictConfig, the program's handlers get nothing; Sentry still does."""
    events.LOGGER.setLevel(logging.NOTSET)
    log_business_event("a")
    events.LOGGER.setLevel(logging.INFO)
    events.LOGGER.disabled = True
    try:
        log_business_event("b")
    finally:
        events.LOGGER.disabled = False
    assert handler.records == [] and [log["body"] for log in logs(sentry)] == ["a", "b"]


def test_logs_off(handler: Keeping) -> None:
    """Without OTEL_SENTRY_LOGS there is no Sentry log, and all else as before."""
    with sentry_sdk_set_up() as sentry:
        signals.install(sentry.runtime)
        hooks.install()
        with sentry.tracer.start_as_current_span("job"):
            log_business_event("post_published")
            otel_sentry.capture_custom_exception(ValueError("later"))
        assert len(handler.records) == 1 and logs(sentry) == [] and len(crumbs(sentry.event)) == 1


def test_error_level_is_no_issue(sentry: Sentry) -> None:
    """At level error it is an ERROR record and log; issues are for exceptions and alerts."""
    log_business_event("payment_refused", level="error")
    log_business_event("payment_refused", level="critical")
    assert [log["level"] for log in logs(sentry)] == ["error", "fatal"] and sentry.events == []


def test_level_of_the_breadcrumb(sentry: Sentry) -> None:
    """Sentry's words for levels."""
    with sentry.tracer.start_as_current_span("job"):
        log_business_event("post_published", level="critical")
        otel_sentry.capture_custom_exception(ValueError("later"))
    assert [crumb["level"] for crumb in crumbs(sentry.event)] == ["fatal"]


def test_breadcrumbs_are_bounded(sentry: Sentry) -> None:
    """SENTRY_MAX_BREADCRUMBS of them are kept, the last ones."""
    with sentry.tracer.start_as_current_span("job"):
        for number in range(300):
            log_business_event(f"event {number}")
        segment = current_segment()
        assert segment is not None and segment.crumbs is not None and len(segment.crumbs) == 100
        otel_sentry.capture_custom_exception(ValueError("later"))
    values = sentry.event["breadcrumbs"]["values"]
    assert len(values) == 100 and values[-2]["message"] == "event 299"


def test_nothing_configured(handler: Keeping) -> None:
    """It is a log record all the same, with its data scrubbed."""
    log_business_event("post_published", {"token": "x"})
    assert vars(handler.records[0])["data.token"] == "[Filtered]"


@pytest.mark.parametrize(
    "arguments",
    [
        (None, None, None, None),
        (Odd(), Odd(), Odd(), Odd()),
        ("", {}, "", ""),
        ("x" * 10**6, dict.fromkeys(range(10_000), "x" * 10_000), "INFO", 10**5000),
        ("100%s", {"name": 1, "message": 2, "args": 3, Odd(): 4}, 3, {Odd(): Odd()}),
        ("t", [1, 2], "info", {"id": None}),
    ],
)
def test_absurd_arguments(sentry: Sentry, handler: Keeping, arguments: tuple[Any, ...]) -> None:
    """Whatever is given, one record of bounded size leaves."""
    with sentry.tracer.start_as_current_span("job"):
        log_business_event(*arguments)
    assert len(handler.records) == 1 and len(handler.records[0].getMessage()) <= 200
    assert len(logs(sentry)) == 1


@pytest.mark.once
def test_cost(sentry: Sentry, handler: Keeping) -> None:
    """With nothing on but the breadcrumb and the span event, less than 50 us; twice that on a busy machine."""
    events.LOGGER.setLevel(logging.NOTSET)
    signals._to_sentry = False
    data = {"kind": "video", "size": 3, "title": "a title"}
    with sentry.tracer.start_as_current_span("job"), otel_sentry.tag_business_operation("publishing"):
        call = lambda: log_business_event("post_published", data)  # noqa: E731
        best = min(timeit.repeat(call, timer=time.thread_time, number=200, repeat=10)) / 200
    assert best < 100e-6, f"{best * 1e6:.1f} us"
