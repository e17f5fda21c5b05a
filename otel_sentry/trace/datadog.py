"""Datadog's headers (``x-datadog-*``), so that traces go on through services that speak nothing else.

The propagator ``datadog`` in ``OTEL_PROPAGATORS``, best as ``tracecontext,baggage,datadog,otel_sentry``: it takes an
incoming trace only where no ``traceparent`` named one. Format: ddtrace's "datadog" style.
"""

from __future__ import annotations

import re

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from otel_sentry import guard

TRACE_ID = "x-datadog-trace-id"
PARENT_ID = "x-datadog-parent-id"
PRIORITY = "x-datadog-sampling-priority"
TAGS = "x-datadog-tags"

_LOW_64 = (1 << 64) - 1
_DECIMAL = re.compile(r"[0-9]{1,20}")
_PRIORITY = re.compile(r"-?[0-9]{1,3}")
_HIGH_64 = re.compile(r"(?:^|,)_dd\.p\.tid=([0-9a-f]{16})(?:,|$)")


class DatadogPropagator(TextMapPropagator):
    """Reads and writes ``x-datadog-trace-id`` (64 bits), ``-parent-id``, ``-sampling-priority`` and, of ``-tags``, the
    upper 64 bits of the trace id."""

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """The remote parent, unless *context* has one, or the headers name none."""
        context = Context() if context is None else context
        with guard.block("propagator datadog"):
            return _extract(carrier, context, getter)
        return context

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the headers of the current span."""
        with guard.block("propagator datadog"):
            span_context = get_current_span(context).get_span_context()
            if span_context.is_valid:
                setter.set(carrier, TRACE_ID, str(span_context.trace_id & _LOW_64))
                setter.set(carrier, PARENT_ID, str(span_context.span_id))
                setter.set(carrier, PRIORITY, str(int(span_context.trace_flags.sampled)))
                if high := span_context.trace_id >> 64:
                    setter.set(carrier, TAGS, f"_dd.p.tid={high:016x}")

    @property
    def fields(self) -> set[str]:
        """The headers that `inject` writes."""
        return {TRACE_ID, PARENT_ID, PRIORITY, TAGS}


def _extract(carrier: CarrierT, context: Context, getter: Getter[CarrierT]) -> Context:
    if get_current_span(context).get_span_context().is_valid:
        return context
    trace_id = _number(_first(getter, carrier, TRACE_ID))
    span_id = _number(_first(getter, carrier, PARENT_ID))
    if not trace_id or not span_id:
        return context
    found = _HIGH_64.search(_first(getter, carrier, TAGS)[:512])
    if found is not None:
        trace_id |= int(found.group(1), 16) << 64
    priority = _first(getter, carrier, PRIORITY)
    kept = int(priority) > 0 if _PRIORITY.fullmatch(priority) else False
    flags = TraceFlags(TraceFlags.SAMPLED if kept else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, span_id, True, flags)), context)


def _first(getter: Getter[CarrierT], carrier: CarrierT, key: str) -> str:
    values = getter.get(carrier, key)
    value = values if isinstance(values, str) else next(iter(values or ()), "")
    return value.strip() if isinstance(value, str) else ""


def _number(text: str) -> int:
    found = int(text) if _DECIMAL.fullmatch(text) else 0
    return found if found <= _LOW_64 else 0
