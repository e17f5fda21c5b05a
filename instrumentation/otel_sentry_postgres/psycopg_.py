"""contrib's PsycopgInstrumentor (psycopg 3), at the cursors' classes instead of at `connect`.

So nothing is missed: server-side cursors (`Model.objects.iterator()`), cursors made from their class, `stream`, `copy`,
cursor factories that are set later, connections that were made before.
"""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from opentelemetry.instrumentation import psycopg as contrib
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor as _Contrib
from opentelemetry.instrumentation.psycopg.version import __version__

from otel_sentry.instrumentor import OneInstance
from otel_sentry_postgres.tracing import Tracer, Tracers, with_settings

Call = Callable[..., Any]
MARK = "_otel_sentry_traced"


class _Tracer(Tracer):
    def encoding_of(self, cursor: Any) -> str:
        return str(cursor.connection.info.encoding)


class PsycopgInstrumentor(OneInstance, _Contrib):
    """Use it as contrib's: the same options, scope and attributes."""

    def _instrument(self, **kwargs: Any) -> None:
        tracers = Tracers(psycopg, contrib.__name__, __version__, _Tracer, with_settings(kwargs))
        for cursor, method, wrap in _METHODS:
            setattr(cursor, method, wrap(getattr(cursor, method), tracers))

    def _uninstrument(self, **kwargs: Any) -> None:
        for cursor, method, _ in _METHODS:
            setattr(cursor, method, getattr(cursor, method).__wrapped__)

    @staticmethod
    def instrument_connection(connection: Any, *args: Any, **kwargs: Any) -> Any:
        """Nothing: while the instrumentor is on, every connection is instrumented."""
        return connection

    @staticmethod
    def uninstrument_connection(connection: Any) -> Any:
        """Nothing, likewise."""
        return connection


@functools.lru_cache(maxsize=256)
def _is_contribs_class(cursor: Any) -> bool:
    return any(base.__module__ == contrib.__name__ for base in cursor.__mro__)


def _is_contribs(cursor: Any) -> bool:
    """Cursors of contrib's `instrument_connection` have spans of their own."""
    kind: Any = type(cursor)
    return _is_contribs_class(kind)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> tuple[Any, ...]:
    """The statement comes first, also when the program gave it by name."""
    return (kwargs.pop(name),) if not args and name in kwargs else args


def _execute(original: Call, tracers: Tracers) -> Call:
    @functools.wraps(original)
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_contribs(self):
            return original(self, *args, **kwargs)
        args = _arguments(args, kwargs, "query")
        return tracers.of(self.connection).run(self, functools.partial(original, self), args, kwargs)

    setattr(execute, MARK, True)
    return execute


def _execute_async(original: Call, tracers: Tracers) -> Call:
    @functools.wraps(original)
    async def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_contribs(self):
            return await original(self, *args, **kwargs)
        args = _arguments(args, kwargs, "query")
        return await tracers.of(self.connection).run_async(self, functools.partial(original, self), args, kwargs)

    return execute


def _stream(original: Call, tracers: Tracers) -> Call:
    @functools.wraps(original)
    def stream(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with tracers.of(self.connection).span(self, _arguments(args, kwargs, "query")) as args:
            yield from original(self, *args, **kwargs)

    return stream


def _stream_async(original: Call, tracers: Tracers) -> Call:
    @functools.wraps(original)
    async def stream(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with tracers.of(self.connection).span(self, _arguments(args, kwargs, "query")) as args:
            rows = original(self, *args, **kwargs)
            try:
                async for row in rows:
                    yield row
            finally:
                await rows.aclose()  # when the program stops early the connection is free at once, as without us

    return stream


def _copy(original: Call, tracers: Tracers) -> Call:
    @functools.wraps(original)
    @contextmanager
    def copy(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with tracers.of(self.connection).span(self, _arguments(args, kwargs, "statement")) as args:
            with original(self, *args, **kwargs) as found:
                yield found

    return copy


def _copy_async(original: Call, tracers: Tracers) -> Call:
    @functools.wraps(original)
    @asynccontextmanager
    async def copy(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with tracers.of(self.connection).span(self, _arguments(args, kwargs, "statement")) as args:
            async with original(self, *args, **kwargs) as found:
                yield found

    return copy


#: Where each method is defined; the other cursors inherit them.
_METHODS: tuple[tuple[Any, str, Callable[[Call, Tracers], Call]], ...] = (
    (psycopg.Cursor, "execute", _execute),
    (psycopg.Cursor, "executemany", _execute),
    (psycopg.Cursor, "stream", _stream),
    (psycopg.Cursor, "copy", _copy),
    (psycopg.ServerCursor, "execute", _execute),
    (psycopg.AsyncCursor, "execute", _execute_async),
    (psycopg.AsyncCursor, "executemany", _execute_async),
    (psycopg.AsyncCursor, "stream", _stream_async),
    (psycopg.AsyncCursor, "copy", _copy_async),
    (psycopg.AsyncServerCursor, "execute", _execute_async),
)
