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
    from otel_sentry.ambient import set_business_context, set_user
    from otel_sentry.api import explain, flush, shutdown, span
    from otel_sentry.bootstrap import configure
    from otel_sentry.business.alerts import alert_manager
    from otel_sentry.business.events import log_business_event
    from otel_sentry.business.funnels import business_metrics
    from otel_sentry.business.journeys import user_journey
    from otel_sentry.business.operations import tag_business_operation
    from otel_sentry.business.performance import monitor_performance
    from otel_sentry.errors import capture_custom_exception
    from otel_sentry.formatters import JsonFormatter, TextFormatter
    from otel_sentry.logs import TraceContextFilter
    from otel_sentry.trace.meta import trace_meta
    from otel_sentry.trace.processors import BusinessSpanProcessor, SentrySpanProcessor, UserSpanProcessor
    from otel_sentry.trace.propagator import SentryPropagator
    from otel_sentry.trace.sampler import SentrySampler

__all__ = [
    "BusinessSpanProcessor",
    "JsonFormatter",
    "SentryPropagator",
    "SentrySampler",
    "SentrySpanProcessor",
    "TextFormatter",
    "TraceContextFilter",
    "UserSpanProcessor",
    "__version__",
    "alert_manager",
    "business_metrics",
    "capture_custom_exception",
    "configure",
    "explain",
    "flush",
    "log_business_event",
    "monitor_performance",
    "set_business_context",
    "set_user",
    "shutdown",
    "span",
    "tag_business_operation",
    "trace_meta",
    "user_journey",
]

_HOMES = {
    "BusinessSpanProcessor": "otel_sentry.trace.processors",
    "JsonFormatter": "otel_sentry.formatters",
    "SentryPropagator": "otel_sentry.trace.propagator",
    "SentrySampler": "otel_sentry.trace.sampler",
    "SentrySpanProcessor": "otel_sentry.trace.processors",
    "TextFormatter": "otel_sentry.formatters",
    "TraceContextFilter": "otel_sentry.logs",
    "UserSpanProcessor": "otel_sentry.trace.processors",
    "alert_manager": "otel_sentry.business.alerts",
    "business_metrics": "otel_sentry.business.funnels",
    "capture_custom_exception": "otel_sentry.errors",
    "configure": "otel_sentry.bootstrap",
    "explain": "otel_sentry.api",
    "flush": "otel_sentry.api",
    "log_business_event": "otel_sentry.business.events",
    "monitor_performance": "otel_sentry.business.performance",
    "set_business_context": "otel_sentry.ambient",
    "set_user": "otel_sentry.ambient",
    "shutdown": "otel_sentry.api",
    "span": "otel_sentry.api",
    "tag_business_operation": "otel_sentry.business.operations",
    "trace_meta": "otel_sentry.trace.meta",
    "user_journey": "otel_sentry.business.journeys",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
