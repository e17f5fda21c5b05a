"""Spans to another backend: the traces of its own rate, scrubbed, without Sentry's carrier attributes.

A span is shared with Sentry's path and read-only: what leaves is a copy, made on the queue's thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.trace import Link, Status

from otel_sentry import guard
from otel_sentry.backends import datadog, outlets, rate_of
from otel_sentry.backends.queue import Queue, number
from otel_sentry.backends.resource import Resources
from otel_sentry.privacy import scrub, scrub_text
from otel_sentry.trace import CARRIER_ATTRIBUTES
from otel_sentry.trace.rate import keeps

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_sentry.backends.outlet import Outlet
    from otel_sentry.settings import Settings

    Name = Callable[[ReadableSpan, Mapping[str, Any]], Mapping[str, str]]


def processors(names: list[str], settings: Settings, *, carriers: bool) -> list[SpanProcessor]:
    """A span processor for each of these exporters that can be made.

    *carriers*: leave Sentry's carrier attributes on: a Collector behind it feeds Sentry.
    """
    copies = Copies(settings, carriers=carriers, naming=datadog.names if settings.preset == "datadog" else None)
    return [SpanOutlet(outlet, copies, rate_of(outlet.name, settings)) for outlet in outlets(names, settings)]


class SpanOutlet(SpanProcessor):
    """Queues the finished spans of the traces that *rate* keeps."""

    def __init__(self, outlet: Outlet, copies: Copies, rate: float) -> None:
        self._rate = rate
        self.queue = Queue(
            outlet,
            copies.of,
            size=int(number("OTEL_BSP_MAX_QUEUE_SIZE", 8192)),
            batch=int(number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)),
            interval=number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        )

    @guard.call("span end (another backend)")
    def on_end(self, span: ReadableSpan) -> None:
        """Queue it. Nothing is converted here."""
        context = span.context
        if context is not None and context.trace_flags.sampled and keeps(context.trace_id, self._rate):
            self.queue.put(span)

    def shutdown(self) -> None:
        """Send what is queued, and stop."""
        self.queue.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is queued."""
        return self.queue.flush(timeout_millis / 1000)


class Copies:
    """Makes the copies of spans that may leave."""

    def __init__(self, settings: Settings, *, carriers: bool = False, naming: Name | None = None) -> None:
        self._pii = settings.send_default_pii
        self._carriers = carriers
        self._naming = naming
        self._resources = Resources(settings)
        self._is_first = True

    def of(self, span: ReadableSpan) -> ReadableSpan:
        """*span* as it may leave: the same ids, times and kinds; texts and attributes scrubbed."""
        if self._is_first:
            self._is_first = False
            if self._naming is not None:
                datadog.warn_of_ddtrace()
        attributes = self._scrubbed(span.attributes)
        if not self._carriers:
            for key in CARRIER_ATTRIBUTES:
                attributes.pop(key, None)
        clean = _Copy(
            name=self._text(span.name),
            context=span.context,
            parent=span.parent,
            resource=self._resources.of(span.resource),
            attributes=attributes,
            events=[self._event(event) for event in span.events],
            links=[Link(link.context, self._scrubbed(link.attributes)) for link in span.links],
            kind=span.kind,
            status=self._status(span.status),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        clean.original = span
        if self._naming is not None:
            for key, value in self._naming(clean, attributes).items():
                attributes.setdefault(key, value)
        return clean

    def _scrubbed(self, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        if not attributes:
            return {}
        return {key: encodable(value) for key, value in scrub(attributes, pii=self._pii).items()}

    def _text(self, text: str) -> str:
        return str(encodable(scrub_text(text, pii=self._pii)))

    def _event(self, event: Event) -> Event:
        return Event(self._text(event.name), self._scrubbed(event.attributes), event.timestamp)

    def _status(self, status: Status) -> Status:
        text = status.description
        return Status(status.status_code, self._text(text)) if text else status


def encodable(value: Any) -> Any:
    """*value* as protobuf takes it: a lone surrogate, or a number of more than 64 bits, would cost a whole batch."""
    if type(value) is str:
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if type(value) is int:
        return value if -(2**63) <= value < 2**63 else str(value)
    return [encodable(item) for item in value] if type(value) is list else value


class _Copy(ReadableSpan):
    """A span that still knows how much of its original the SDK's limits had cut off."""

    original: ReadableSpan

    @property
    def dropped_attributes(self) -> int:
        return self.original.dropped_attributes

    @property
    def dropped_events(self) -> int:
        return self.original.dropped_events

    @property
    def dropped_links(self) -> int:
        return self.original.dropped_links
