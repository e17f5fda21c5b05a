"""Other backends beside Sentry: OpenTelemetry's own exporters, without Sentry's carrier attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_sentry import guard
from otel_sentry.trace import CARRIER_ATTRIBUTES

#: Short names in `OTEL_TRACES_EXPORTER` and its like, and the entry points they stand for: HTTP, unless gRPC is set.
_ALIASES = {"otlp": ("otlp_proto_http", "otlp_proto_grpc")}


def exporters(names: Iterable[str], signal: str = "traces") -> list[Any]:
    """Make the exporters with these entry-point names; one that can't be made is named once and left out.

    *signal*: "traces", "logs" or "metrics".
    """
    from importlib.metadata import entry_points

    group = f"opentelemetry_{signal}_exporter"
    installed = {entry_point.name: entry_point for entry_point in entry_points(group=group)}
    made: list[Any] = []
    for name in names:
        entry_point = next((installed[alias] for alias in _candidates(name, signal) if alias in installed), None)
        if entry_point is None:
            guard.say(f"OTEL_{signal.upper()}_EXPORTER={name}: no such exporter is installed; {_advice(name)}")
            continue
        with guard.block(f"exporter {name}"):
            made.append(entry_point.load()())
    return made


def _candidates(name: str, signal: str) -> Sequence[str]:
    import os

    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", ""
    )
    if name == "otlp" and protocol.startswith("grpc"):
        return ("otlp_proto_grpc",)
    return _ALIASES.get(name, (name,))


def _advice(name: str) -> str:
    if name == "otlp":
        return "pip install opentelemetry-exporter-otlp-proto-http"
    return "it is left out"


class _WithoutCarriers(SpanExporter):
    def __init__(self, inner: SpanExporter) -> None:
        self.inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self.inner.export([_stripped(span) for span in spans])

    def shutdown(self) -> None:
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.inner.force_flush(timeout_millis)


def without_carriers(exporter: SpanExporter) -> SpanExporter:
    """*exporter*, fed with spans that lack `CARRIER_ATTRIBUTES`."""
    return _WithoutCarriers(exporter)


def _stripped(span: ReadableSpan) -> ReadableSpan:
    attributes: Any = span.attributes or {}
    if CARRIER_ATTRIBUTES.isdisjoint(attributes):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={key: value for key, value in attributes.items() if key not in CARRIER_ATTRIBUTES},
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
