"""Log records to other backends: OpenTelemetry's `LoggerProvider` with its own exporters, scrubbed."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord, SeverityNumber, set_logger_provider
from opentelemetry.context import get_current
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter

from otel_sentry.backends import exporters
from otel_sentry.logs import severity
from otel_sentry.privacy import scrub, scrub_text

if TYPE_CHECKING:
    from otel_sentry.logs import Snapshot
    from otel_sentry.settings import Settings


def make_provider(names: Iterable[str], settings: Settings, resource: Any) -> LoggerProvider | None:
    """The provider with these exporters, made the global one; None when none of them is installed."""
    made = exporters(names, "logs")
    if not made:
        return None
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in made:
        provider.add_log_record_processor(BatchLogRecordProcessor(_Scrubbed(exporter, settings.send_default_pii)))
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


class _Scrubbed(LogRecordExporter):
    """An exporter that gets no secrets; works on the export thread."""

    def __init__(self, inner: Any, pii: bool) -> None:
        self.inner = inner
        self.pii = pii

    def export(self, batch: Sequence[Any]) -> Any:
        return self.inner.export([self._clean(one) for one in batch])

    def _clean(self, readable: Any) -> Any:
        record = copy.copy(readable.log_record)
        if isinstance(record.body, str):
            record.body = scrub_text(record.body, pii=self.pii)
        if record.attributes:
            record.attributes = scrub(record.attributes, pii=self.pii)
        return dataclasses.replace(readable, log_record=record)

    def shutdown(self) -> None:
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flush = getattr(self.inner, "force_flush", None)
        return True if flush is None else bool(flush(timeout_millis))
