"""Log records to other backends: OpenTelemetry's `LoggerProvider` with its own exporters, scrubbed."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord, SeverityNumber, set_logger_provider
from opentelemetry.context import Context, get_current
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord

from otel_sentry import guard
from otel_sentry.backends import outlets
from otel_sentry.backends.queue import Queue, number
from otel_sentry.backends.resource import Resources
from otel_sentry.backends.spans import encodable
from otel_sentry.logs import severity
from otel_sentry.privacy import scrub, scrub_text

if TYPE_CHECKING:
    from otel_sentry.backends.outlet import Outlet
    from otel_sentry.logs import Snapshot
    from otel_sentry.settings import Settings


def make_provider(names: Iterable[str], settings: Settings, resource: Any) -> LoggerProvider | None:
    """The provider with these exporters, made the global one; None when none of them is installed."""
    made = outlets(names, settings, "logs")
    if not made:
        return None
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for outlet in made:
        provider.add_log_record_processor(LogOutlet(outlet, settings))
    set_logger_provider(provider)
    return provider


def emit(provider: LoggerProvider, taken: Snapshot) -> None:
    """Give a record to *provider*, with the trace context of this moment."""
    text, number = severity(taken.levelno)
    provider.get_logger(taken.logger).emit(
        LogRecord(
            timestamp=int(taken.created * 1e9),
            observed_timestamp=time.time_ns(),
            context=get_current(),
            severity_text=text.upper(),
            severity_number=SeverityNumber(number),
            body=taken.body,
            attributes=taken.attributes,
        )
    )


class LogOutlet(LogRecordProcessor):
    """Queues records; they are scrubbed on the queue's thread."""

    def __init__(self, outlet: Outlet, settings: Settings) -> None:
        self._pii = settings.send_default_pii
        self._resources = Resources(settings)
        self.queue = Queue(
            outlet,
            self._clean,
            size=int(number("OTEL_BLRP_MAX_QUEUE_SIZE", 8192)),
            batch=int(number("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", 512)),
            interval=number("OTEL_BLRP_SCHEDULE_DELAY", 1000) / 1000,
        )

    @guard.call("log record (another backend)")
    def on_emit(self, log_record: Any) -> None:
        """Queue it, without the context, which would keep the whole request alive."""
        record = copy.copy(log_record.log_record)
        record.context = Context()
        self.queue.put((record, log_record.resource, log_record.instrumentation_scope, log_record.limits))

    def _clean(self, item: tuple[LogRecord, Any, Any, Any]) -> ReadableLogRecord:
        record, resource, scope, limits = item
        if isinstance(record.body, str):
            record.body = encodable(scrub_text(record.body, pii=self._pii))
        if record.attributes:
            clean = scrub(record.attributes, pii=self._pii)
            record.attributes = {key: encodable(value) for key, value in clean.items()}
        return ReadableLogRecord(
            log_record=record,
            resource=self._resources.of(resource),
            instrumentation_scope=scope,
            limits=limits,
        )

    def shutdown(self) -> None:
        """Send what is queued, and stop."""
        self.queue.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is queued."""
        return self.queue.flush(timeout_millis / 1000)
