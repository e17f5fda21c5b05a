"""The small functions of the public API: custom spans, flush, shutdown."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from otel_sentry import guard, process, runtime

if TYPE_CHECKING:
    from otel_sentry.convention import Explanation


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


def explain(span: Any) -> Explanation:
    """Which rules make *span* what it is in Sentry; ``print(explain(span))`` says it in words.

    Args:
        span: an SDK span, running or finished. A running one may still change: instrumentors add attributes at the end.

    """
    from otel_sentry.convention import explain as explained  # its tables are not needed at start-up

    current = runtime.get()
    style = current.settings.django_transaction_style if current is not None else "otel"
    parent = span.parent
    return explained(span, is_root=parent is None or parent.is_remote, style=style)


@guard.call("flush", default=False)
def flush(timeout: float | None = None) -> bool:
    """Send what is there. True when all left within *timeout* seconds (default: `OTEL_SENTRY_SHUTDOWN_TIMEOUT`)."""
    return process.flush_now(timeout)


def shutdown() -> None:
    """Send what is there and stop, within `OTEL_SENTRY_SHUTDOWN_TIMEOUT` seconds. Done for you at exit."""
    process.shutdown()
