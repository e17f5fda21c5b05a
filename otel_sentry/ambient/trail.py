"""Breadcrumbs that code leaves itself, beside those that are rendered from spans at error time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from otel_sentry import runtime
from otel_sentry.trace.segment import current_segment

_DEFAULT_LIMIT = 100


class Crumb(NamedTuple):
    """One breadcrumb, as `Segment.crumbs` holds it: there a plain tuple, which costs less. *data*: plain values."""

    at: float  # seconds since the epoch
    category: str
    message: str
    level: str
    data: Mapping[str, Any] | None


def crumb(category: str, message: str, level: str = "info", data: Mapping[str, Any] | None = None) -> None:
    """Leave a breadcrumb for later errors of the current request, task or command; outside of one it does nothing.

    Args:
        category: what it is about: "auth", "validation", "business".
        message: what has happened. A span event of the same name is not shown beside it.
        level: Sentry's: debug, info, warning, error or fatal.
        data: plain values (`otel_sentry.logs.value_of` makes them), few of them.

    The last `SENTRY_MAX_BREADCRUMBS` are kept. Cheap; never raises.

    """
    segment = current_segment()
    if segment is None:
        return
    kept = segment.crumbs
    if kept is None:
        kept = segment.crumbs = []
    kept.append((time.time(), category, message, level, data))
    current = runtime.get()
    if len(kept) > (current.settings.max_breadcrumbs if current is not None else _DEFAULT_LIMIT):
        del kept[0]
