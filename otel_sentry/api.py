"""The small functions of the public API: custom spans, flush, shutdown."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import trace

from otel_sentry import guard, process


def span(name: str, /, **attributes: Any) -> AbstractContextManager[trace.Span]:
    """A custom span; context manager and decorator, for functions and coroutines::

        with span("resize", width=800):
            ...

        @span("resize")
        def resize(image): ...

    Args:
        name: what is done; keep it free of ids.
        attributes: values; primitive ones or sequences of them.

    """
    return trace.get_tracer("otel_sentry").start_as_current_span(name, attributes=attributes)


@guard.call("flush", default=False)
def flush(timeout: float | None = None) -> bool:
    """Send what is there. True when all left within *timeout* seconds (default: `OTEL_SENTRY_SHUTDOWN_TIMEOUT`)."""
    return process.flush_now(timeout)


def shutdown() -> None:
    """Send what is there and stop, within `OTEL_SENTRY_SHUTDOWN_TIMEOUT` seconds. Done for you at exit."""
    process.shutdown()
