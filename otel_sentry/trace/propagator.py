"""`SentryPropagator`: the one reader and writer of ``sentry-trace`` and of ``sentry-*`` in ``baggage``.

It runs last in the composite, after ``tracecontext`` and ``baggage``, whose output it completes, never
undoes. This module is loaded while `opentelemetry.propagate` is itself being imported: API modules only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus

from opentelemetry import baggage
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_value, set_value
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_sentry import guard
from otel_sentry.trace import dsc as dsc_module
from otel_sentry.trace.headers import (
    BAGGAGE,
    PREFIX,
    SENTRY_TRACE,
    SentryTrace,
    format_sentry_trace,
    header_text,
    merge_baggage,
    parse_sentry_trace,
    sentry_items,
    third_party,
)
from otel_sentry.trace.segment import REMOTE_KEY, remote_of, segment_of
from otel_sentry.trace.tracestate import KEY, Decision, parse_member

#: When a message was published, epoch seconds. sentry-python's name, so that mixed fleets work together.
ENQUEUED_TIME = "sentry-task-enqueued-time"
_EVERYWHERE = (".*",)
_SUPPRESS_PLAIN_KEY = "suppress_instrumentation"  # the older one, still set beside the other


def is_suppressed(context: Context | None = None) -> bool:
    """Has somebody asked for no telemetry? By either key of `suppress_instrumentation`."""
    return bool(get_value(_SUPPRESS_INSTRUMENTATION_KEY, context) or get_value(_SUPPRESS_PLAIN_KEY, context))


class TraceContextPropagator(TraceContextTextMapPropagator):
    """W3C's ``traceparent`` and ``tracestate``, which holds a member of ours, for propagation targets only."""

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """As OpenTelemetry's, unless the span's URL is no propagation target."""
        allowed = True
        with guard.block("propagator.inject"):
            allowed = _is_target(get_current_span(context))
        if allowed:
            super().inject(carrier, context, setter)


class SentryPropagator(TextMapPropagator):
    """Continues and passes on Sentry traces. Settings: those of the running set-up, else of the environment.

    Put it last: ``OTEL_PROPAGATORS=tracecontext,baggage,otel_sentry`` (the default).
    """

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Read the trace to continue. Bad headers leave *context* as it was; never raises."""
        if context is None:
            context = Context()
        with guard.block("propagator.extract"):
            return _extract(carrier, context, getter)
        return context

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the current trace into *carrier*, unless its URL is no propagation target; never raises."""
        with guard.block("propagator.inject"):
            _inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        """The headers that `inject` writes."""
        return {SENTRY_TRACE, BAGGAGE}


# --- In ---


def _extract(carrier: CarrierT, context: Context, getter: Getter[CarrierT]) -> Context:
    trace = parse_sentry_trace(header_text(getter.get(carrier, SENTRY_TRACE)))
    items = sentry_items(header_text(getter.get(carrier, BAGGAGE)))
    if items:
        context = _without_sentry_baggage(context)
    settings = dsc_module.current_settings()
    strict = settings.strict_trace_continuation
    parent = get_current_span(context).get_span_context()
    w3c = parent if parent.is_valid and parent.is_remote else None
    if trace is None:
        if w3c is None or _already_read(context, w3c):
            return context
        remote = dsc_module.remote_from_w3c(w3c, items, w3c_parent=settings.w3c_parent, strict=strict)
        if remote.dsc and not _continues(remote.dsc, strict):
            return _refuse(context)
        return set_value(REMOTE_KEY, remote, context)
    if not _continues(items, strict):
        return _refuse(context)
    span_context, member = _continued_context(trace, w3c)
    remote = dsc_module.remote_from_sentry(trace.trace_id, trace.span_id, trace.sampled, items, member)
    return set_value(REMOTE_KEY, remote, set_span_in_context(NonRecordingSpan(span_context), context))


def _continued_context(trace: SentryTrace, w3c: SpanContext | None) -> tuple[SpanContext, Decision | None]:
    """The remote parent. When W3C headers speak of the same trace, other vendors' state and flags stay."""
    flags = TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT
    if w3c is None or w3c.trace_id != trace.trace_id:
        return SpanContext(trace.trace_id, trace.span_id, True, TraceFlags(flags)), None
    flags = TraceFlags(flags | w3c.trace_flags)
    span_context = SpanContext(trace.trace_id, trace.span_id, True, flags, w3c.trace_state)
    return span_context, parse_member(w3c.trace_state.get(KEY))


def _already_read(context: Context, w3c: SpanContext) -> bool:
    """A carrier without any header, in a context whose remote parent was read before: leave it."""
    remote = remote_of(context)
    return remote is not None and remote.trace_id == w3c.trace_id and remote.span_id == w3c.span_id


def _continues(items: Mapping[str, str], strict: bool) -> bool:
    return dsc_module.continues(items.get("org_id"), dsc_module.identity().org_id, strict)


def _refuse(context: Context) -> Context:
    """Another organisation's trace: be the head of a new one, whatever the request's W3C headers say."""
    return set_value(REMOTE_KEY, None, set_span_in_context(INVALID_SPAN, context))


def _without_sentry_baggage(context: Context) -> Context:
    """Take the DSC out of OTel's baggage: the baggage propagator would send it to any host, target or not."""
    entries = baggage.get_all(context)
    if not any(key.startswith(PREFIX) for key in entries):
        return context
    context = baggage.clear(context)
    for key, value in entries.items():
        if not key.startswith(PREFIX):
            context = baggage.set_baggage(key, value, context)
    return context


# --- Out ---


def _inject(carrier: CarrierT, context: Context | None, setter: Setter[CarrierT]) -> None:
    span = get_current_span(context)
    span_context = span.get_span_context()
    if not span_context.is_valid or is_suppressed(context) or not _is_target(span):
        return
    is_publish = getattr(span, "kind", None) is SpanKind.PRODUCER
    present = _present(carrier)
    if not is_publish and _belongs_to_another_trace(present, span_context):
        return
    sampled, dsc = _state_of(span_context, context)
    setter.set(carrier, SENTRY_TRACE, format_sentry_trace(span_context.trace_id, span_context.span_id, sampled))
    _set_baggage(carrier, present, dsc, context, setter)
    if is_publish:
        setter.set(carrier, ENQUEUED_TIME, str(time.time()))


def _state_of(span_context: SpanContext, context: Context | None) -> tuple[bool | None, dict[str, str]]:
    """Flag and DSC to send: the segment's, else (spans that are not recorded) by tracestate and remote."""
    segment = segment_of(span_context)
    if segment is not None:
        return segment.decision.sampled, dsc_module.dsc_of(segment)
    remote = remote_of(context)
    if remote is not None and remote.trace_id != span_context.trace_id:
        remote = None
    member = parse_member(span_context.trace_state.get(KEY))
    if span_context.is_remote:  # nothing of ours ran in between: pass on what came
        remote = remote or dsc_module.remote_from_w3c(span_context, {})
        decision = Decision(remote.sampled, remote.sample_rate, remote.sample_rand)
    elif member is not None:
        decision = member
    else:  # a local span of a provider that is not ours: its sampler decided
        decision = Decision(span_context.trace_flags.sampled)
    return decision.sampled, dsc_module.dsc_without_segment(span_context.trace_id, decision, remote)


def _belongs_to_another_trace(present: Mapping[str, tuple[str, Any]], span_context: SpanContext) -> bool:
    """Did the program itself put another trace's ``sentry-trace`` there? Then it stays.

    Not asked when publishing: a message sent again (Celery's retry) still carries its first sending's
    headers.
    """
    if SENTRY_TRACE not in present:
        return False
    found = parse_sentry_trace(header_text(present[SENTRY_TRACE][1]))
    return found is not None and found.trace_id != span_context.trace_id


def _set_baggage(
    carrier: CarrierT,
    present: Mapping[str, tuple[str, Any]],
    dsc: Mapping[str, str],
    context: Context | None,
    setter: Setter[CarrierT],
) -> None:
    key, value = present.get(BAGGAGE, (BAGGAGE, None))
    text = header_text(value)
    others: Iterable[str]
    if text:
        others = third_party(text)
    elif _is_readable(carrier) and value is None:
        others = []
    else:  # write-only, or values of a shape of its own: repeat what the baggage propagator wrote
        others = _context_baggage(context)
    merged = merge_baggage(others, dsc)
    if merged:
        if merged != text:
            setter.set(carrier, key, merged)
    elif text and isinstance(carrier, MutableMapping):
        carrier.pop(key, None)  # nothing but a former trace's DSC was in it


def _is_readable(carrier: object) -> bool:
    return isinstance(carrier, Mapping) or callable(getattr(carrier, "get", None))


def _present(carrier: Any) -> dict[str, tuple[str, Any]]:
    """What the carrier already holds of ours: ``{lower-case name: (name as written, value)}``."""
    if not _is_readable(carrier):
        return {}
    found = {}
    for name in (SENTRY_TRACE, BAGGAGE):
        value = carrier.get(name)
        if value is not None:
            found[name] = (name, value)
    if type(carrier) is dict and len(found) < 2:  # other mappings of headers ignore the case by themselves
        for key, value in carrier.items():
            if isinstance(key, str) and len(key) in (7, 12) and key.lower() in (SENTRY_TRACE, BAGGAGE):
                found.setdefault(key.lower(), (key, value))
    return found


def _context_baggage(context: Context | None) -> Iterable[str]:
    for key, value in baggage.get_all(context).items():
        if not key.startswith(PREFIX):
            yield f"{quote_plus(key)}={quote_plus(str(value), errors='replace')}"


# --- Where to ---


def _is_target(span: Span) -> bool:
    """May this request's host see the headers? Without a URL to ask about (queues), yes."""
    targets = dsc_module.current_settings().trace_propagation_targets
    if targets == _EVERYWHERE or getattr(span, "kind", None) is not SpanKind.CLIENT:
        return True
    attributes = getattr(span, "attributes", None) or {}
    url = attributes.get("url.full") or attributes.get("http.url")
    return not isinstance(url, str) or _matches(url, tuple(targets))


@lru_cache(maxsize=256)
def _matches(url: str, targets: tuple[str | re.Pattern[str], ...]) -> bool:
    """Found anywhere in the URL, as in sentry-python."""
    return any(re.search(target, url) for target in targets)
