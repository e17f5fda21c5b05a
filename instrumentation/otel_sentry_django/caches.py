"""Cache spans around Django's cache framework, whatever the backend (`OTEL_SENTRY_DJANGO_CACHE_SPANS`).

A backend that talks to Redis through redis-py has the command's span below.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import wrapt
from django.core.cache import CacheHandler

from otel_sentry import caches, guard, runtime

SCOPE = "otel_sentry_django"
#: Django's session ids are in keys: who has one is logged in.
_SECRET_KEYS = ("django.contrib.sessions.",)
_FILTERED = "[Filtered]"


class Method(NamedTuple):
    """One method of `BaseCache`: Sentry's op, the name of its first argument, and whether that is many keys."""

    op: str
    argument: str | None = "key"
    many: bool = False


METHODS = {
    "get": Method("cache.get"),
    "get_many": Method("cache.get", "keys", True),
    "set": Method("cache.put"),
    "add": Method("cache.put"),
    "set_many": Method("cache.put", "data", True),
    "delete": Method("cache.remove"),
    "delete_many": Method("cache.remove", "keys", True),
    "clear": Method("cache.flush", None),
}


def install() -> None:
    """Have every cache that Django makes from now on traced. Calling it again does nothing."""
    if not isinstance(CacheHandler.create_connection, wrapt.FunctionWrapper):
        wrapt.wrap_function_wrapper(CacheHandler, "create_connection", _create_connection)


def uninstall() -> None:
    """Undo `install` for caches that are made later."""
    if isinstance(CacheHandler.create_connection, wrapt.FunctionWrapper):
        setattr(CacheHandler, "create_connection", CacheHandler.create_connection.__wrapped__)


def _create_connection(call: Callable[..., Any], handler: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    cache = call(*args, **kwargs)
    with guard.block("django cache"):
        current = runtime.get()
        if current is None or current.settings.django_cache_spans:
            alias = args[0] if args else kwargs.get("alias")
            # Not the backend's class: another cache may be the user's own, kept out of CACHES.
            backend: Any = type(cache)
            cache.__class__ = _traced(backend)
            cache._otel_sentry_peer = _peer(handler.settings[alias].get("LOCATION"))
    return cache


@functools.lru_cache(maxsize=64)
def _traced(backend: type) -> type:
    """A subclass of *backend* that adds no state, under the same name."""
    methods: dict[str, Any] = {"__module__": backend.__module__, "__qualname__": backend.__qualname__}
    for name, method in METHODS.items():
        for full in (name, f"a{name}"):
            original = getattr(backend, full, None)
            if original is not None:
                methods[full] = _wrapped(original, method)
    return type(backend.__name__, (backend,), methods)


def _wrapped(original: Callable[..., Any], method: Method) -> Callable[..., Any]:
    @functools.wraps(original)
    def sync(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, keys = _keys(method, args, kwargs)
        with caches.operation(SCOPE, method.op, keys, self._otel_sentry_peer) as span:
            result = original(self, *args, **kwargs)
            if span is not None:
                _describe(span, method, args, kwargs, keys, result)
            return result

    @functools.wraps(original)
    async def asynchronous(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, keys = _keys(method, args, kwargs)
        with caches.operation(SCOPE, method.op, keys, self._otel_sentry_peer) as span:
            result = await original(self, *args, **kwargs)
            if span is not None:
                _describe(span, method, args, kwargs, keys, result)
            return result

    return asynchronous if inspect.iscoroutinefunction(original) else sync


def _keys(method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], list[str]]:
    """The arguments, and the keys in them. A generator of keys can be read once only: it is replaced by a list."""
    keys: list[str] = []
    if method.argument is None:
        return args, keys
    given: Any = args[0] if args else kwargs.get(method.argument)
    if method.many and isinstance(given, Iterable) and not isinstance(given, Collection):
        given = list(given)  # not in the guard: what it raises is the program's
        if args:
            args = (given, *args[1:])
        else:
            kwargs[method.argument] = given
    with guard.block("django cache keys"):
        keys = [_shown(key) for key in given] if method.many else [_shown(given)]
    return args, keys


def _shown(key: Any) -> str:
    if not isinstance(key, str):
        return str(key) if isinstance(key, int) else f"<{type(key).__name__}>"
    for prefix in _SECRET_KEYS:
        if key.startswith(prefix):
            return prefix + _FILTERED
    return key


@guard.call("django cache span")
def _describe(
    span: Any, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any], keys: list[str], result: Any
) -> None:
    if method.op == "cache.get":
        if method.many:
            caches.describe(span, hit=len(result) >= len(keys), size=caches.size_of(list(result.values())))
            return
        default = args[1] if len(args) > 1 else kwargs.get("default")
        hit = result is not default
        caches.describe(span, hit=hit, size=caches.size_of(result) if hit else None)
    elif method.op == "cache.put":
        if method.many:
            given = args[0] if args else kwargs.get("data")
            value: Any = list(given.values()) if isinstance(given, dict) else None
        else:
            value = args[1] if len(args) > 1 else kwargs.get("value")
        caches.describe(span, size=caches.size_of(value))


def _peer(location: Any) -> tuple[str, int | None] | None:
    """Host and port of the (first) server; None for caches that are no server. Never the URL: it holds passwords."""
    if isinstance(location, (list, tuple)):
        location = location[0] if location else None
    if not isinstance(location, str):
        return None
    first = location.split(",")[0].split(";")[0]
    parts = urlsplit(first if "://" in first else f"//{first}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or ("://" not in first and port is None):
        return None
    return host, port
