"""Every request and task, whatever the sampling of traces says: how long, its outcome, its time in the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode, set_span_in_context

from otel_sentry import guard
from otel_sentry.business import metrics
from otel_sentry.trace.totals import DATABASE

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_sentry.trace.segment import Segment


@guard.call("request metrics")
def ended(segment: Segment, root: ReadableSpan) -> None:
    """The local root *root* has ended."""
    if root.kind is SpanKind.SERVER:
        if metrics.heard("app.request.duration"):
            _measured(segment, root, "app.request.duration", {"route": root.name, "module": module_of(segment, root)})
    elif root.kind is SpanKind.CONSUMER:
        task = str((root.attributes or {}).get("celery.task_name") or root.name)
        if _outcome(root) == "error":
            _in(root, metrics.count, "app.task.failures", 1, {"task": task})
        if metrics.heard("app.task.duration"):
            _measured(segment, root, "app.task.duration", {"task": task})


def _measured(segment: Segment, root: ReadableSpan, name: str, labels: dict[str, str | None]) -> None:
    seconds = ((root.end_time or 0) - (root.start_time or 0)) / 1e9
    _in(root, metrics.distribution, name, seconds, {**labels, "outcome": _outcome(root), "unit": "s"})
    found = segment.totals
    if found is not None and found.count[DATABASE] > 0:
        database = {"module": module_of(segment, root), "unit": "s"}
        _in(root, metrics.distribution, "app.database.duration", found.ns[DATABASE] / 1e9, database)


def _in(
    root: ReadableSpan, function: Callable[..., None], name: str, value: float, arguments: dict[str, str | None]
) -> None:
    """Measure in the trace of *root*, which is no longer the current span."""
    token = otel_context.attach(set_span_in_context(NonRecordingSpan(root.context)))
    try:
        function(name, value, **arguments)
    finally:
        otel_context.detach(token)


def _outcome(root: ReadableSpan) -> str:
    attributes = root.attributes or {}
    status = attributes.get("http.response.status_code", attributes.get("http.status_code"))
    if isinstance(status, int):
        return "error" if status >= 500 else "ok"
    return "error" if root.status.status_code is StatusCode.ERROR else "ok"


def module_of(segment: Segment, root: ReadableSpan) -> str | None:
    """The module that the program named, else the Django app of the view, else the package of the task."""
    business = segment.business
    if business is not None and business.module:
        return str(business.module)
    if segment.module is not None:
        return segment.module()
    task = (root.attributes or {}).get("celery.task_name")
    return task.partition(".")[0] if isinstance(task, str) else None
