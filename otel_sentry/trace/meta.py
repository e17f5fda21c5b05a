"""HTML meta tags that let the browser's SDK continue the trace of the request that made the page."""

from __future__ import annotations

from html import escape

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from otel_sentry import guard
from otel_sentry.trace.propagator import SentryPropagator


@guard.call("trace_meta", default="")
def trace_meta() -> str:
    """The current trace as ``<meta>`` tags, escaped: ``sentry-trace``, ``baggage`` and ``traceparent``.

    Of the baggage only Sentry's part: the rest is between servers. Empty outside of a trace. A page that is cached
    must not contain it: all its readers would join one trace.
    """
    span_context = get_current_span().get_span_context()
    if not span_context.is_valid:
        return ""
    found: dict[str, str] = {}
    SentryPropagator().inject(found)
    ids = f"{format_trace_id(span_context.trace_id)}-{format_span_id(span_context.span_id)}"
    found["traceparent"] = f"00-{ids}-{span_context.trace_flags & 1:02x}"
    return "".join(f'<meta name="{name}" content="{escape(value)}">' for name, value in found.items())
