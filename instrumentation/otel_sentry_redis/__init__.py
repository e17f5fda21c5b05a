"""Redis for otel-sentry: contrib's instrumentor.

This module imports neither redis nor contrib: the distro imports it at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_sentry_redis.instrumentor import RedisInstrumentor as RedisInstrumentor


def __getattr__(name: str) -> Any:
    if name == "RedisInstrumentor":
        from otel_sentry_redis.instrumentor import RedisInstrumentor

        return RedisInstrumentor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
