"""contrib's RedisInstrumentor, plus cache spans. Commands reach the spans without their arguments."""

from __future__ import annotations

from typing import Any

from opentelemetry.instrumentation import redis as contrib
from opentelemetry.instrumentation.redis import RedisInstrumentor as _Contrib

from otel_sentry import runtime
from otel_sentry.instrumentor import OneInstance
from otel_sentry_redis import pipelines

#: contrib's function for names and texts of pipelines.
_META_DATA = "_build_span_meta_data_for_pipeline"


class RedisInstrumentor(OneInstance, _Contrib):
    """Use it as contrib's: the same hooks, scope and attributes.

    Commands on keys with one of `OTEL_SENTRY_CACHE_PREFIXES` get a cache span as their parent. Without prefixes nothing
    is wrapped.
    """

    _caches = False
    _original: Any = None

    def _instrument(self, **kwargs: Any) -> None:
        self._original = getattr(contrib, _META_DATA, None)
        if self._original is not None:
            setattr(contrib, _META_DATA, pipelines.meta_data)
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
        if self._original is not None:
            setattr(contrib, _META_DATA, self._original)
