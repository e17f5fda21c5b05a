"""Spans of Django's database queries where no driver's instrumentor makes them: drivers we don't know, or turned off.

By `execute_wrappers`, Django's own seam, on every connection that is opened. Whether the driver's cursors are traced is
asked of each connection's first cursor, so no statement has two spans.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.signals import connection_created
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from otel_sentry import guard
from otel_sentry._version import __version__
from otel_sentry.convention.origin import DJANGO_DB_SCOPE
from otel_sentry_postgres.outcome import finish
from otel_sentry_postgres.statements import read, text_of

_UID = "otel_sentry_postgres"
#: Set on what we trace ourselves (`psycopg_`, `psycopg2_`).
_MARK = "_otel_sentry_traced"
_SYSTEMS = {"oracle": "oracle.db", "microsoft": "microsoft.sql_server"}


def install() -> None:
    """Have every connection of Django's watched. Calling it again does nothing."""
    connection_created.connect(_on_connection, dispatch_uid=_UID)
    for connection in _open_connections():
        _add(connection)


def uninstall() -> None:
    """Undo `install`."""
    connection_created.disconnect(dispatch_uid=_UID)
    for connection in _open_connections():
        connection.execute_wrappers[:] = [one for one in connection.execute_wrappers if not isinstance(one, _Wrapper)]


def _open_connections() -> list[Any]:
    # Asking `connections` reads the settings: not before the program has chosen them.
    return connections.all(initialized_only=True) if settings.configured else []


@guard.call("django connection")
def _on_connection(sender: Any = None, connection: Any = None, **kwargs: Any) -> None:
    _add(connection)


def _add(connection: Any) -> None:
    wrappers = connection.execute_wrappers
    if not any(isinstance(one, _Wrapper) for one in wrappers):
        # First: `with connection.execute_wrapper(...)` takes the last one away again.
        wrappers.insert(0, _Wrapper(connection))


class _Wrapper:
    """One connection's."""

    __slots__ = ("_attributes", "_is_traced")

    def __init__(self, connection: Any) -> None:
        self._is_traced: bool | None = None
        self._attributes = _attributes(connection)

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        if self._is_traced is None:
            self._is_traced = is_traced(context["cursor"].cursor)
        # Outside of any trace (`migrate`) each statement would be a trace of its own.
        outside = not trace.get_current_span().get_span_context().is_valid
        if self._is_traced or outside or otel_context.get_value(_SUPPRESS_INSTRUMENTATION_KEY):
            return execute(sql, params, many, context)
        cursor = context["cursor"]
        statement = read("")
        with guard.block("text of a statement"):
            statement = read(text_of(sql, cursor.cursor))
        tracer = _tracer(trace.get_tracer_provider())
        name = statement.operation or str(self._attributes["db.namespace"])
        with tracer.start_as_current_span(name, kind=trace.SpanKind.CLIENT) as span:
            if span.is_recording():
                span.set_attributes({**self._attributes, "db.query.text": statement.text,
                                     "db.query.summary": statement.summary})  # fmt: skip
            started = time.perf_counter()
            try:
                result = execute(sql, params, many, context)
            except Exception as exc:
                finish(span, cursor, started, exc)
                raise
            finish(span, cursor, started)
            return result


def is_traced(cursor: Any) -> bool:
    """Does an instrumentor, ours or one of contrib's, make spans of what this driver's cursor executes?"""
    for base in type(cursor).__mro__:
        if base.__module__.startswith("opentelemetry.") or _MARK in vars(base):
            return True
        if hasattr(vars(base).get("execute"), _MARK):
            return True
    return False


def _attributes(connection: Any) -> dict[str, Any]:
    """The database's, by their stable names."""
    known = connection.settings_dict
    host = known.get("HOST") or ""
    found: dict[str, Any] = {
        "db.system.name": _SYSTEMS.get(connection.vendor, connection.vendor),
        "db.namespace": str(known.get("NAME") or ""),
    }
    if host and not host.startswith("/"):
        found["server.address"] = host
        if str(known.get("PORT")).isdigit():
            found["server.port"] = int(known["PORT"])
    return found


@functools.lru_cache(maxsize=8)
def _tracer(provider: Any) -> trace.Tracer:
    tracer: trace.Tracer = provider.get_tracer(DJANGO_DB_SCOPE, __version__)
    return tracer
