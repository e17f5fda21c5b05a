"""Celery for otel-sentry: contrib's instrumentor with ours on top.

This module imports neither Celery nor contrib: the distro imports it at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_sentry_celery.instrumentor import CeleryInstrumentor as CeleryInstrumentor


def __getattr__(name: str) -> Any:
    if name == "CeleryInstrumentor":
        from otel_sentry_celery.instrumentor import CeleryInstrumentor

        return CeleryInstrumentor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
