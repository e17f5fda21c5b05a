"""contrib's Psycopg2Instrumentor, at the connections' class instead of at `connect`.

psycopg2's own classes can't be changed: connections become instances of a subclass that gives out traced subclasses of
whatever cursor is asked for. So `cursor_factory=DictCursor` and `copy_expert` are seen too, and who did `from psycopg2
import connect` before the instrumentation.
"""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import psycopg2
from opentelemetry.instrumentation import psycopg2 as contrib
from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor as _Contrib
from opentelemetry.instrumentation.psycopg2.version import __version__
from psycopg2 import extensions

from otel_sentry import guard
from otel_sentry.instrumentor import OneInstance
from otel_sentry_postgres.tracing import Tracer, Tracers, with_settings

MARK = "_otel_sentry_traced"
#: Methods that make the statement themselves: what it looks like, and which argument it is about.
_MADE = {
    "callproc": ("CALL {}", 0, "procname"),
    "copy_from": ("COPY {} FROM STDIN", 1, "table"),
    "copy_to": ("COPY {} TO STDOUT", 1, "table"),
}


class _Tracer(Tracer):
    def encoding_of(self, cursor: Any) -> str:
        return str(extensions.encodings.get(cursor.connection.encoding, "utf-8"))


#: None while the instrumentor is off: connections outlive it.
_tracers: Tracers | None = None


class Psycopg2Instrumentor(OneInstance, _Contrib):
    """Use it as contrib's; `psycopg2` and `psycopg2-binary` both count as the driver."""

    def _instrument(self, **kwargs: Any) -> None:
        global _tracers
        _tracers = Tracers(psycopg2, contrib.__name__, __version__, _Tracer, with_settings(kwargs))
        # `psycopg2.connect` calls it by this name: whoever imported `connect` before calls it as well.
        setattr(psycopg2, "_connect", _connecting(psycopg2._connect))

    def _uninstrument(self, **kwargs: Any) -> None:
        global _tracers
        _tracers = None
        setattr(psycopg2, "_connect", psycopg2._connect.__wrapped__)

    @staticmethod
    def instrument_connection(connection: Any, *args: Any, **kwargs: Any) -> Any:
        """For a connection that was made before the instrumentation: its default cursors are traced from now on."""
        if not isinstance(connection, _Connection):
            connection.cursor_factory = traced(connection.cursor_factory or extensions.cursor)
        return connection

    @staticmethod
    def uninstrument_connection(connection: Any) -> Any:
        """Undo `instrument_connection`."""
        if hasattr(connection.cursor_factory, MARK):
            connection.cursor_factory = connection.cursor_factory.__bases__[0]
        return connection


class _Connection(extensions.connection):  # type: ignore[misc]
    def cursor(self, name: Any = None, cursor_factory: Any = None, *args: Any, **kwargs: Any) -> Any:
        factory = cursor_factory or self.cursor_factory or extensions.cursor
        return super().cursor(name, traced(factory), *args, **kwargs)


def _connecting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(dsn: Any, connection_factory: Any = None, **kwargs: Any) -> Any:
        connection = original(dsn, connection_factory=_traced_connection(connection_factory), **kwargs)
        if isinstance(connection, extensions.connection):  # a factory may make what it likes
            Psycopg2Instrumentor.instrument_connection(connection)
        return connection

    return connect


def _traced_connection(factory: Any) -> Any:
    if factory is None or factory is extensions.connection:
        return _Connection
    if not isinstance(factory, type) or issubclass(factory, _Connection):
        return factory
    # Ours behind theirs: `DictConnection.cursor` chooses its own cursor, then comes ours.
    chosen: Any = factory
    with guard.block("psycopg2 connection"):
        chosen = _connection_class(chosen)
    return chosen


@functools.lru_cache(maxsize=64)
def _connection_class(factory: Any) -> type:
    return type(factory.__name__, (factory, _Connection), {"__module__": factory.__module__})


def traced(factory: Any) -> Any:
    """A subclass of the cursor class *factory* whose statements are spans; *factory* itself if it is none."""
    known: Any = factory
    return _cursor_class(known) if isinstance(factory, type) else factory


@functools.lru_cache(maxsize=256)
def _cursor_class(factory: Any) -> Any:
    if hasattr(factory, MARK) or any(base.__module__ == contrib.__name__ for base in factory.__mro__):
        return factory
    methods: dict[str, Any] = {"__module__": factory.__module__, "__qualname__": factory.__qualname__, MARK: True}
    for name in ("execute", "executemany", "copy_expert"):
        methods[name] = _given(getattr(factory, name))
    for name, how in _MADE.items():
        methods[name] = _made(getattr(factory, name), *how)
    return type(factory.__name__, (factory,), methods)


def _given(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        tracers = _tracers
        if tracers is None:
            return original(self, *args, **kwargs)
        if not args and ("query" in kwargs or "sql" in kwargs):
            args = (kwargs.pop("sql" if "sql" in kwargs else "query"),)
        return tracers.of(self.connection).run(self, functools.partial(original, self), args, kwargs)

    return method


def _made(original: Callable[..., Any], statement: str, place: int, argument: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        tracers = _tracers
        if tracers is None:
            return original(self, *args, **kwargs)
        subject = args[place] if len(args) > place else kwargs.get(argument, "")
        tracer = tracers.of(self.connection)
        return tracer.run(self, lambda _: original(self, *args, **kwargs), (statement.format(subject),), {})

    return method
