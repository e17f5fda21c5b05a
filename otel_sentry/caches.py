"""Cache spans, in the shape that Sentry's Caches module reads: the cache's operation, around the store's own span.

No instrumentor of OpenTelemetry makes them; ours do, with `operation`. The span's name is Sentry's op (`cache.get`,
`cache.put`, `cache.remove`, `cache.flush`), its scope one of `convention.origin.CACHE_SCOPES`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace

from otel_sentry._version import __version__

#: Keys that one span names, and the characters of each.
MAX_KEYS = 50
MAX_KEY = 200
#: Values whose sizes are added up: a list of more may be one value, and is looked at on the caller's time.
MAX_VALUES = 1_000

_inside: ContextVar[bool] = ContextVar("otel_sentry_cache", default=False)


@contextmanager
def operation(
    scope: str,
    name: str,
    keys: Sequence[str],
    peer: tuple[str, int | None] | None = None,
    provider: Any = None,
    expected: tuple[type[BaseException], ...] = (),
) -> Iterator[trace.Span | None]:
    """Around one operation of a cache. None where there is nothing to record. What is *expected* is no failure.

    A cache built on another cache, and one that gets many by getting each, is one operation: the outermost. Outside of
    any trace there is no span: a root named after a key would be no name at all.
    """
    if _inside.get() or not trace.get_current_span().is_recording():
        yield None
        return
    attributes: dict[str, Any] = {}
    if keys:
        attributes["cache.key"] = [key[:MAX_KEY] for key in keys[:MAX_KEYS]]
    if peer is not None:
        attributes["network.peer.address"] = peer[0]
        if peer[1] is not None:
            attributes["network.peer.port"] = peer[1]
    token = _inside.set(True)
    raised: BaseException | None = None
    try:
        tracer = _tracer(provider or trace.get_tracer_provider(), scope)
        with tracer.start_as_current_span(name, attributes=attributes) as span:
            try:
                yield span
            except expected as exc:
                raised = exc
    finally:
        _inside.reset(token)
    if raised is not None:
        raise raised


@functools.lru_cache(maxsize=8)
def _tracer(provider: Any, scope: str) -> trace.Tracer:
    tracer: trace.Tracer = provider.get_tracer(scope, __version__)
    return tracer


def size_of(value: Any) -> int | None:
    """Bytes of a value, or of all in a list of values, where that is known without serialising or copying anything."""
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if isinstance(value, memoryview):
        return value.nbytes
    if isinstance(value, str):
        return len(value) if value.isascii() else None
    if isinstance(value, (list, tuple)):
        return _size_of_all(value)
    return None


def _size_of_all(values: Sequence[Any]) -> int | None:
    if len(values) > MAX_VALUES:
        return None
    total: int | None = None
    for value in values:
        size = None if isinstance(value, (list, tuple)) else size_of(value)
        if size is not None:
            total = (total or 0) + size
        elif value is not None:
            return None
    return total


def describe(span: trace.Span, *, hit: bool | None = None, size: int | None = None) -> None:
    """Put the outcome on the span: *hit* for reads (all that was asked for was there), *size* in bytes."""
    if hit is not None:
        span.set_attribute("cache.hit", hit)
    if size is not None:
        span.set_attribute("cache.item_size", size)
