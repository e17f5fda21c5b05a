"""What a finished statement adds to its span, whoever made that."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import trace

from otel_sentry import guard, location, runtime

_NEVER = float("inf")


@guard.call("outcome of a statement")
def finish(span: trace.Span, cursor: Any, started: float, exc: BaseException | None = None) -> None:
    """Put the outcome on the span: rows or SQLSTATE; and who asked, where it took longer than the threshold."""
    if not span.is_recording():
        return
    if exc is not None:
        if _state(exc) is None and exc.__cause__ is not None and _state(exc.__cause__):
            exc = exc.__cause__  # Django's own exceptions come from the driver's
        span.set_attribute("error.type", type(exc).__qualname__)
        if state := _state(exc):
            span.set_attribute("db.response.status_code", state)
    else:
        # Returned or affected, as contrib's histogram of that name counts them.
        rows = getattr(cursor, "rowcount", None)
        if isinstance(rows, int) and rows >= 0:
            span.set_attribute("db.response.returned_rows", rows)
    if time.perf_counter() - started > _slow_s():
        for name, value in location.of_caller().items():
            span.set_attribute(name, value)


def _slow_s() -> float:
    current = runtime.get()
    return current.settings.slow_query_ms / 1000 if current is not None else _NEVER


def _state(exc: BaseException) -> str | None:
    """The SQLSTATE, by psycopg's name or by psycopg2's."""
    state = getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None)
    return state if isinstance(state, str) else None
