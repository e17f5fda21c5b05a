"""OpenTelemetry for Django, Celery, Redis and Postgres, with everything that Sentry gives.

Under ``opentelemetry-instrument`` nothing has to be imported from here. From code::

    import otel_sentry

    otel_sentry.configure(dsn="https://...")

    with otel_sentry.tag_business_operation("checkout"):
        ...

Names load at first use: this package is imported while OpenTelemetry itself is being imported (decision 22).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_sentry._version import __version__

if TYPE_CHECKING:
    from otel_sentry.ambient import set_business_context, set_user, tag_business_operation
    from otel_sentry.api import explain, flush, shutdown, span
    from otel_sentry.bootstrap import configure
    from otel_sentry.errors import capture_custom_exception
    from otel_sentry.logs import TraceContextFilter
    from otel_sentry.trace.processors import BusinessSpanProcessor, SentrySpanProcessor, UserSpanProcessor
    from otel_sentry.trace.propagator import SentryPropagator
    from otel_sentry.trace.sampler import SentrySampler

__all__ = [
    "BusinessSpanProcessor",
    "SentryPropagator",
    "SentrySampler",
    "SentrySpanProcessor",
    "TraceContextFilter",
    "UserSpanProcessor",
    "__version__",
    "capture_custom_exception",
    "configure",
    "explain",
    "flush",
    "set_business_context",
    "set_user",
    "shutdown",
    "span",
    "tag_business_operation",
]

_HOMES = {
    "BusinessSpanProcessor": "otel_sentry.trace.processors",
    "SentryPropagator": "otel_sentry.trace.propagator",
    "SentrySampler": "otel_sentry.trace.sampler",
    "SentrySpanProcessor": "otel_sentry.trace.processors",
    "TraceContextFilter": "otel_sentry.logs",
    "UserSpanProcessor": "otel_sentry.trace.processors",
    "capture_custom_exception": "otel_sentry.errors",
    "configure": "otel_sentry.bootstrap",
    "explain": "otel_sentry.api",
    "flush": "otel_sentry.api",
    "set_business_context": "otel_sentry.ambient",
    "set_user": "otel_sentry.ambient",
    "shutdown": "otel_sentry.api",
    "span": "otel_sentry.api",
    "tag_business_operation": "otel_sentry.ambient",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
