"""Slow requests, tasks, calls and blocks, and repeated queries: what is said of them, and where (business.md 3, 5)."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from otel_sentry import ambient, guard, runtime
from otel_sentry.blocks import Block, Opened, end_span, name_of, plain_name, tracer
from otel_sentry.business import metrics
from otel_sentry.trace import totals
from otel_sentry.trace.segment import segment_of

if TYPE_CHECKING:
    from typing import ParamSpec

    from opentelemetry.sdk.trace import ReadableSpan

    from otel_sentry.trace.segment import Segment

    P = ParamSpec("P")

R = TypeVar("R")

LOGGER = logging.getLogger("otel_sentry.business")
DEFAULT_MS = 2000.0
#: Names of the counters.
SLOW_REQUESTS = "request.slow"
SLOW_TASKS = "task.slow"
SLOW_QUERIES = "query.slow"
SLOW_EXTERNALS = "external.slow"
SLOW_OPERATIONS = "operation.slow"
REPEATED_QUERIES = "query.n_plus_one"
_SLOWEST = 3
_MAX_TEXT = 120


# --- What the pipeline noticed ---


def on_slow(segment: Segment, span: ReadableSpan, what: str) -> None:
    """The pipeline's hook: *what* is "root" (of a slow or repeating segment), "query", "external" or "repeated"."""
    # A span may end where another request is at work: nothing of it belongs into that one's trail.
    owner: Any = span if what == "root" else segment.live_root or trace.INVALID_SPAN
    with trace.use_span(owner, record_exception=False, set_status_on_exception=False):
        if what == "root":
            _root(segment, span)
        else:
            _call(span, what)


def _call(span: ReadableSpan, what: str) -> None:
    attributes = span.attributes or {}
    if what == "repeated":
        ambient.crumb("performance", f"one query again and again: {_text(span)}", "warning")
        return
    took = _ms(span)
    ambient.crumb("performance", f"slow {what}: {_text(span)}", "warning", {"duration_ms": took})
    if what == "query":
        system = attributes.get("db.system.name") or attributes.get("db.system")
        metrics.count(SLOW_QUERIES, system=system, operation=span.name.partition(" ")[0])
    else:
        host = attributes.get("server.address") or attributes.get("net.peer.name")
        metrics.count(SLOW_EXTERNALS, host=host, method=span.name.partition(" ")[0])


def _root(segment: Segment, root: ReadableSpan) -> None:
    ns = (root.end_time or 0) - (root.start_time or 0)
    found = segment.totals
    told = any(event.name == totals.SLOW for event in root.events)  # a monitored block speaks for itself
    if not told and totals.is_slow(segment, root, ns):
        kind = "request" if root.kind is SpanKind.SERVER else "task" if root.kind is SpanKind.CONSUMER else "operation"
        slowest = [span for _, span in found.slowest] if found is not None else []
        _tell(kind, root.name, ns / 1e6, (totals.threshold(segment, root) or 0) / 1e6, slowest)
        if kind == "task":
            metrics.count(SLOW_TASKS, task=(root.attributes or {}).get("celery.task_name") or root.name)
        elif kind == "request" and ns >= totals.limits.very_slow:
            metrics.count(SLOW_REQUESTS, route=root.name)
    repeated = totals.worst(found) if found is not None else None
    if repeated is not None:
        query, times = repeated
        metrics.count(REPEATED_QUERIES, root=root.name)
        current = runtime.get()
        if current is not None and current.settings.n_plus_one_alert:
            from otel_sentry.business.alerts import alert_manager

            message = f"{root.name} runs one query again and again"
            alert_manager.trigger_business_alert("n_plus_one", "warning", message, {"query": query, "times": times})


def _tell(kind: str, name: str, ms: float, limit_ms: float, slowest: Iterable[ReadableSpan]) -> None:
    """The WARNING, the breadcrumb and, where asked for, the issue of something slow."""
    texts = [f"{_text(span)} {_ms(span):.0f} ms" for span in slowest]
    children = f"; slowest: {', '.join(texts)}" if texts else ""
    extra = {"slow_operation": True, "operation": name, "duration_ms": round(ms, 3), "threshold_ms": limit_ms}
    LOGGER.warning(
        "slow %s %s: %.0f ms (from %.0f ms on)%s", kind, name, ms, limit_ms, children, extra={**extra, "slowest": texts}
    )
    ambient.crumb("performance", f"slow {kind}: {name}", "warning", {"duration_ms": round(ms, 3)})
    current = runtime.get()
    if current is not None and current.sender is not None and current.settings.slow_as_issue:
        from otel_sentry.sentry.client import capture_message

        capture_message(
            f"Slow {kind}: {name}",
            level="warning",
            fingerprint=["slow_operation", kind, name],
            contexts={"slow_operation": {**extra, "slowest": texts}},
            tags={totals.SLOW: "true"},
        )


def _ms(span: ReadableSpan) -> float:
    return round(((span.end_time or 0) - (span.start_time or 0)) / 1e6, 3)


def _text(span: ReadableSpan) -> str:
    """What a span did, without values."""
    from otel_sentry import privacy
    from otel_sentry.convention import describe

    text = privacy.scrub_text(describe(span, is_root=False).description or span.name)
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"


# --- Blocks of the application ---


class Monitor(Block[trace.Span]):
    """What `monitor_performance` returns."""

    def __init__(self, name: str | None, threshold_ms: float) -> None:
        super().__init__()
        self._name = name
        self._threshold_ms = threshold_ms

    def _take_from(self, function: Callable[..., Any]) -> None:
        self._name = self._name or name_of(function)

    def _open(self) -> Opened:
        name = self._name or "block"
        span = tracer().start_span(name)
        context = trace.set_span_in_context(span)
        return Opened(context, span, functools.partial(self._close, span, name, time.perf_counter()))

    def _close(self, span: trace.Span, name: str, started: float, exc: BaseException | None) -> None:
        ms = (time.perf_counter() - started) * 1000
        try:
            limit = self._limit(name)
            if ms >= limit:
                with guard.block("slow operation"):
                    self._tell(span, name, ms, limit)
        finally:
            end_span(span, exc)

    def _limit(self, name: str) -> float:
        named = totals.limits.named((name,))
        return self._threshold_ms if named is None else named / 1e6

    def _tell(self, span: trace.Span, name: str, ms: float, limit: float) -> None:
        span.set_attribute(totals.SLOW, True)
        span.add_event(totals.SLOW, {"duration_ms": round(ms, 3), "threshold_ms": limit})
        metrics.count(SLOW_OPERATIONS, operation=name)
        _tell("operation", name, ms, limit, _slowest_below(span))


def _slowest_below(span: trace.Span) -> list[ReadableSpan]:
    """The slowest of the finished children of a span."""
    context = span.get_span_context()
    segment = segment_of(context)
    if segment is None:
        return []
    spans = segment.spans.copy()
    children = [one for one in spans if one.parent is not None and one.parent.span_id == context.span_id]
    return sorted(children, key=lambda one: (one.start_time or 0) - (one.end_time or 0))[:_SLOWEST]


@overload
def monitor_performance(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def monitor_performance(name: str | None = None, threshold_ms: float = DEFAULT_MS) -> Monitor: ...


def monitor_performance(name: Any = None, threshold_ms: float = DEFAULT_MS) -> Any:
    """A span that speaks up when it takes long: on functions, coroutines, generators and blocks::

        @monitor_performance                                # named after the function
        def import_posts(): ...

        with monitor_performance("render", threshold_ms=500):
            ...

    From *threshold_ms* on: ``slow_operation=true`` and an event on the span, a WARNING record of the logger
    ``otel_sentry.business`` with the three slowest children, a breadcrumb, the counter ``operation.slow``; an issue
    with ``OTEL_SENTRY_SLOW_AS_ISSUE=1``. Never raises of its own.

    Args:
        name: what is done; keep it free of ids. Default: the function's name.
        threshold_ms: milliseconds; ``OTEL_SENTRY_SLOW_MS`` may give another for this name.

    """
    if callable(name):
        return Monitor(None, DEFAULT_MS)(name)
    return Monitor(plain_name(name), _milliseconds(threshold_ms))


@guard.call("monitor_performance", default=DEFAULT_MS)
def _milliseconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        guard.say_once("threshold_ms", f"monitor_performance: threshold_ms is no number; {DEFAULT_MS:g} is used")
        return DEFAULT_MS
    return number
