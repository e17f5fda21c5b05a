"""contrib's RedisInstrumentor, plus cache spans. Commands reach the spans without their arguments."""

from __future__ import annotations

from typing import Any

from opentelemetry.instrumentation.redis import RedisInstrumentor as _Contrib

from otel_sentry import runtime


class RedisInstrumentor(_Contrib):
    """Use it as contrib's: the same hooks, scope and attributes.

    Commands on keys with one of `OTEL_SENTRY_CACHE_PREFIXES` get a cache span as their parent. Without prefixes nothing
    is wrapped.
    """

    _caches = False

    def __new__(cls, *args: Any, **kwargs: Any) -> RedisInstrumentor:
        """One instance for contrib's class and ours, so that calling contrib's too does nothing twice."""
        if not isinstance(_Contrib._instance, cls):
            former, _Contrib._instance = _Contrib._instance, object.__new__(cls)
            _Contrib._instance.__dict__.update(former.__dict__ if former else {})
        instance: RedisInstrumentor = _Contrib._instance
        return instance

    def _instrument(self, **kwargs: Any) -> None:
        super()._instrument(**kwargs)
        current = runtime.get()
        prefixes = current.settings.cache_prefixes if current is not None else ()
        if prefixes:
            from otel_sentry_redis import caches

            # After contrib's wrapper, so around it: the cache span is the parent.
            caches.wrap(prefixes, kwargs.get("tracer_provider"))
            self._caches = True

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._caches:
            from otel_sentry_redis import caches

            caches.unwrap()
            self._caches = False
        super()._uninstrument(**kwargs)
