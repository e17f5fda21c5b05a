"""Breadcrumbs and timings of an error, rendered from the spans that its segment has finished so far."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind, get_current_span

from otel_sentry import privacy
from otel_sentry.ambient.trail import Crumb
from otel_sentry.trace import totals

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_sentry.trace.segment import Segment

_FINE = frozenset({None, "", "ok", "unset", "unknown"})
#: Beginning of an operation -> category of the breadcrumb; first match wins.
_CATEGORIES = (
    ("db.redis", "redis"),
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


def of_events(span: Any, limit: int, told: Container[str] = ()) -> list[dict[str, Any]]:
    """The last *limit* events of a span, finished or not, as breadcrumbs; exceptions are issues, not crumbs.

    Those with a name in *told* have left a breadcrumb themselves.
    """
    made = []
    for event in (getattr(span, "events", None) or ())[-limit:]:
        if event.name == "exception" or event.name in told:
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


def _left(crumb: Crumb) -> dict[str, Any]:
    """What code left itself."""
    made: dict[str, Any] = {"category": crumb.category, "message": crumb.message, "level": crumb.level}
    made["timestamp"] = datetime.fromtimestamp(crumb.at, timezone.utc)
    return {**made, "data": dict(crumb.data)} if crumb.data else made


def of_segment(segment: Segment, limit: int) -> list[dict[str, Any]]:
    """The last *limit* of *segment*'s finished spans (by their end), of its spans' events, and of what code left."""
    if limit <= 0:
        return []
    spans = list(islice(reversed(_snapshot(segment)), limit))
    made = [of_span(span) for span in reversed(spans)]
    left = [Crumb._make(one) for one in segment.crumbs or ()]
    told = {crumb.message for crumb in left}
    live: dict[int, Any] = {id(one): one for one in (segment.live_root, get_current_span()) if one is not None}
    for span in (*spans, *live.values()):
        context = span.get_span_context()
        if context is not None and context.trace_id == segment.trace_id:
            made += of_events(span, limit, told)
    return merge(_started(segment), merge(made, (_left(crumb) for crumb in left), limit - 1), limit)


#: What a local root is called in the trail; others are not mentioned.
_ROOTS = {SpanKind.SERVER: ("request", "Request started"), SpanKind.CONSUMER: ("task", "Task started")}


def _started(segment: Segment) -> list[dict[str, Any]]:
    """The first one: the request or task itself."""
    root = segment.root or segment.live_root
    known = _ROOTS.get(getattr(root, "kind", SpanKind.INTERNAL))
    if root is None or known is None or not root.start_time:
        return []
    category, message = known
    at = datetime.fromtimestamp(root.start_time / 1e9, timezone.utc)
    name, _ = segment.name_and_source()
    return [{"category": category, "message": f"{message}: {name}", "level": "info", "timestamp": at}]


def of_error(exc: BaseException) -> dict[str, Any]:
    """The last one: what the trail led to. The message is on the issue."""
    return {
        "category": "error",
        "message": f"Error occurred: {type(exc).__name__}",
        "level": "error",
        "timestamp": datetime.now(timezone.utc),
    }


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
    """``contexts.performance``: time so far (ms), slow or not; number and ms of calls by kind."""
    return totals.so_far(segment)


def _snapshot(segment: Segment) -> list[ReadableSpan]:
    for _ in range(5):
        try:
            return list(segment.spans)
        except RuntimeError:  # another thread appended meanwhile
            continue
    return []
