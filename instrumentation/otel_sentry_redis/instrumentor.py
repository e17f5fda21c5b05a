"""contrib's RedisInstrumentor, in a class of ours. Commands reach the spans without their arguments."""

from __future__ import annotations

from typing import Any

from opentelemetry.instrumentation.redis import RedisInstrumentor as _Contrib


class RedisInstrumentor(_Contrib):
    """Use it as contrib's: the same hooks, scope and attributes."""

    def __new__(cls, *args: Any, **kwargs: Any) -> RedisInstrumentor:
        """One instance for contrib's class and ours, so that calling contrib's too does nothing twice."""
        if not isinstance(_Contrib._instance, cls):
            former, _Contrib._instance = _Contrib._instance, object.__new__(cls)
            _Contrib._instance.__dict__.update(former.__dict__ if former else {})
        instance: RedisInstrumentor = _Contrib._instance
        return instance
