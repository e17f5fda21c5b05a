"""Breadcrumbs and timings of an error, rendered from the spans that its segment has finished so far."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind, get_current_span

from otel_sentry import privacy

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_sentry.trace.segment import Segment

_CACHES = frozenset({"redis", "memcached", "valkey"})
_FINE = frozenset({None, "", "ok", "unset", "unknown"})
#: Beginning of an operation -> category of the breadcrumb; first match wins.
_CATEGORIES = (
    ("db.redis", "redis"),
    ("cache", "redis"),
    ("db", "query"),
    ("http", "http"),
    ("queue", "queue"),
)


def of_span(span: ReadableSpan) -> dict[str, Any]:
    """One finished span as a Sentry breadcrumb."""
    from otel_sentry.convention import describe

    described = describe(span, is_root=False)
    start, end = span.start_time or 0, span.end_time or 0
    crumb: dict[str, Any] = {
        "category": _category(described.op),
        "message": described.description,
        "level": "info" if described.status in _FINE else "error",
        "timestamp": datetime.fromtimestamp(end / 1e9, timezone.utc),
        "data": {"duration_ms": round(max(end - start, 0) / 1e6, 3), **_http(described.data)},
    }
    if crumb["category"] == "http":
        crumb["type"] = "http"
    return crumb


def _category(operation: str | None) -> str:
    for prefix, category in _CATEGORIES:
        if operation and operation.startswith(prefix):
            return category
    return operation or "span"


def _http(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that Sentry shows of an http breadcrumb."""
    names = {
        "method": ("http.request.method", "http.method"),
        "url": ("url.full", "http.url", "url"),
        "status_code": ("http.response.status_code", "http.status_code"),
    }
    found = {name: next((data[key] for key in keys if key in data), None) for name, keys in names.items()}
    return {name: value for name, value in found.items() if value is not None}


def of_events(span: Any, limit: int) -> list[dict[str, Any]]:
    """The last *limit* events of a span, finished or not, as breadcrumbs; exceptions are issues, not crumbs."""
    made = []
    for event in (getattr(span, "events", None) or ())[-limit:]:
        if event.name == "exception":
            continue
        attributes = dict(event.attributes or {})
        made.append(
            {
                "category": "event",
                "message": event.name,
                "level": "info",
                "timestamp": datetime.fromtimestamp(event.timestamp / 1e9, timezone.utc),
                "data": privacy.scrub(attributes),
            }
        )
    return made


def of_segment(segment: Segment, limit: int) -> list[dict[str, Any]]:
    """The last *limit* of the finished spans of *segment* (by their end), and of its spans' events."""
    if limit <= 0:
        return []
    spans = list(islice(reversed(_snapshot(segment)), limit))
    made = [of_span(span) for span in reversed(spans)]
    live: dict[int, Any] = {id(one): one for one in (segment.live_root, get_current_span()) if one is not None}
    for span in (*spans, *live.values()):
        context = span.get_span_context()
        if context is not None and context.trace_id == segment.trace_id:
            made += of_events(span, limit)
    return merge(made, (), limit)


def merge(first: Iterable[dict[str, Any]], second: Iterable[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Both in order of time, the last *limit* of them."""
    merged = sorted([*first, *second], key=lambda crumb: _seconds(crumb.get("timestamp")))
    return merged[-limit:] if limit > 0 else []


def _seconds(value: Any) -> float:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    if isinstance(value, int | float):
        return float(value)
    try:
        return _seconds(datetime.fromisoformat(str(value).replace("Z", "+00:00")))
    except ValueError:
        return 0.0


def operation_of(segment: Segment, span_id: int) -> str | None:
    """The Sentry operation of a span of *segment*: the current one, its root, or one that has just ended."""
    from otel_sentry.convention import describe

    root = segment.root or segment.live_root
    live = get_current_span()
    for span in (live, root, *reversed(_snapshot(segment)[-20:])):
        context = span.get_span_context() if span is not None else None
        if context is not None and context.span_id == span_id and hasattr(span, "attributes"):
            return describe(span, is_root=span_id == segment.span_id).op or None
    return None


def performance(segment: Segment) -> dict[str, Any]:
    """``contexts.performance``: time so far (ms); number and time of database, cache, external calls."""
    found: dict[str, Any] = {"response_time_ms": round((time.monotonic() - segment.started) * 1000, 3)}
    for span in _snapshot(segment):
        kind = _call_kind(span)
        if kind:
            duration = max((span.end_time or 0) - (span.start_time or 0), 0) / 1e6
            found[f"{kind}_calls"] = found.get(f"{kind}_calls", 0) + 1
            found[f"{kind}_time_ms"] = round(found.get(f"{kind}_time_ms", 0.0) + duration, 3)
    return found


def _call_kind(span: ReadableSpan) -> str | None:
    attributes = span.attributes or {}
    system = attributes.get("db.system.name") or attributes.get("db.system")
    if system:
        return "cache" if system in _CACHES else "database"
    if span.kind is SpanKind.CLIENT and ("http.request.method" in attributes or "http.method" in attributes):
        return "external"
    return None


def _snapshot(segment: Segment) -> list[ReadableSpan]:
    for _ in range(5):
        try:
            return list(segment.spans)
        except RuntimeError:  # another thread appended meanwhile
            continue
    return []
