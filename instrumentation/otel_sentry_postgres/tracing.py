"""The span of a statement, for both drivers: contrib's, with what it leaves out.

That is the text without literals, a summary, the rows, the SQLSTATE, and for slow statements the place in the program.
"""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.instrumentation import dbapi
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_sentry import guard, runtime
from otel_sentry_postgres.outcome import finish
from otel_sentry_postgres.statements import Statement, read, text_of

Call = Callable[..., Any]
_MAX_SERVERS = 128


def with_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The options of `instrument()`, with those that come from our settings unless they were given."""
    current = runtime.get()
    if current is not None and current.settings.sqlcommenter:
        options.setdefault("enable_commenter", True)
    return options


class Tracers:
    """The tracer of each connection. Connections to the same database as the same user share one."""

    def __init__(self, module: Any, scope: str, version: str, text: type[Tracer], options: dict[str, Any]) -> None:
        self._module, self._scope, self._version, self._text, self._options = module, scope, version, text, options
        self._by_server: dict[tuple[Any, ...], Tracer] = {}
        self._by_connection: WeakKeyDictionary[Any, Tracer] = WeakKeyDictionary()

    def of(self, connection: Any) -> Tracer:
        """The tracer for *connection*, which may have been made before the instrumentation."""
        tracer = self._by_connection.get(connection)
        if tracer is None:
            tracer = self._by_connection[connection] = self._made(connection)
        return tracer

    def _made(self, connection: Any) -> Tracer:
        key: tuple[Any, ...] = ()
        with guard.block("address of a Postgres connection"), suppress(self._module.Error):  # a broken connection's
            info = connection.info
            key = (info.dbname, info.host, info.port, info.user)
        known = self._by_server.get(key)
        if known is not None:
            return known
        made = self._text(self._integration(connection if key else None))
        if len(self._by_server) < _MAX_SERVERS:
            self._by_server[key] = made
        return made

    def _integration(self, connection: Any) -> Any:
        integration = dbapi.DatabaseApiIntegration(
            self._scope,
            "postgresql",
            {"database": "info.dbname", "port": "info.port", "host": "info.host", "user": "info.user"},
            version=self._version,
            connect_module=self._module,
            tracer_provider=self._options.get("tracer_provider"),
            enable_commenter=self._options.get("enable_commenter", False),
            commenter_options=self._options.get("commenter_options") or {},
            enable_attribute_commenter=self._options.get("enable_attribute_commenter", False),
            capture_parameters=self._options.get("capture_parameters", False),
        )
        integration.get_connection_attributes(connection)
        return integration


class Tracer(dbapi.CursorTracer[Any]):
    """contrib's, around any method of a cursor whose first argument is a statement."""

    def statement_of(self, cursor: Any, args: Sequence[Any]) -> Statement:
        """What the span says of the statement in *args*."""
        if args and type(args[0]) is str:
            return read(args[0])
        statement = Statement("", "", "")
        with guard.block("text of a statement"):
            if args:
                statement = read(text_of(args[0], cursor))
        return statement

    def get_operation_name(self, cursor: Any, args: Sequence[Any]) -> str:
        return self.statement_of(cursor, args).operation

    def get_statement(self, cursor: Any, args: Sequence[Any]) -> str:
        return self.statement_of(cursor, args).text

    def _populate_span(self, span: trace.Span, cursor: Any, *args: Any) -> None:
        super()._populate_span(span, cursor, *args)
        summary = self.statement_of(cursor, args).summary
        if summary and span.is_recording():
            span.set_attribute("db.query.summary", summary)

    def _update_args_with_added_sql_comment(self, args: tuple[Any, ...], cursor: Any) -> tuple[Any, ...]:
        if args and isinstance(args[0], bytes):  # contrib would send "b'...'"
            args = (args[0].decode(self.encoding_of(cursor)), *args[1:])
        elif args and hasattr(args[0], "strings") and not hasattr(dbapi, "_Template"):
            return args  # nor does an older contrib know template strings
        updated: tuple[Any, ...] = super()._update_args_with_added_sql_comment(args, cursor)
        return updated

    def encoding_of(self, cursor: Any) -> str:
        """The Python codec of a cursor's connection."""
        return "utf-8"

    def run(self, cursor: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call, in a span."""
        if not is_instrumentation_enabled():  # contrib would call `observed`, for the program's own span
            return call(*args, **kwargs)

        def observed(*args: Any, **kwargs: Any) -> Any:
            span = trace.get_current_span()
            started = time.perf_counter()
            try:
                result = call(*args, **kwargs)
            except Exception as exc:
                finish(span, cursor, started, exc)
                raise
            finish(span, cursor, started)
            return result

        return self.traced_execution(cursor, observed, *args, **kwargs)

    async def run_async(
        self, cursor: Any, call: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Await, in a span."""
        if not is_instrumentation_enabled():  # contrib asks only from 0.64b0 on
            return await call(*args, **kwargs)

        async def observed(*args: Any, **kwargs: Any) -> Any:
            span = trace.get_current_span()
            started = time.perf_counter()
            try:
                result = await call(*args, **kwargs)
            except Exception as exc:
                finish(span, cursor, started, exc)
                raise
            finish(span, cursor, started)
            return result

        return await self.traced_execution_async(cursor, observed, *args, **kwargs)

    @contextmanager
    def span(self, cursor: Any, args: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """A span that is open while the program takes or gives rows one by one (`stream`, `copy`).

        It is never the current one: what the program does meanwhile is not part of the statement. Gives the arguments
        to call with.
        """
        if not is_instrumentation_enabled():
            yield args
            return
        integration = self._db_api_integration
        name = self.get_operation_name(cursor, args) or integration.database or integration.name
        span = integration._tracer.start_span(name, kind=trace.SpanKind.CLIENT)
        started = time.perf_counter()
        failure: Exception | None = None
        try:
            if span.is_recording():
                with guard.block("attributes of a statement"):
                    self._populate_span(span, cursor, *args)
                    if self._commenter_enabled:
                        with trace.use_span(span):
                            args = self._update_args_with_added_sql_comment(args, cursor)
            yield args
        except Exception as exc:
            failure = exc
            span.record_exception(exc)
            span.set_status(trace.Status(trace.StatusCode.ERROR, f"{type(exc).__name__}: {exc}"))
            raise
        finally:  # also when the program stops early
            finish(span, cursor, started, failure)
            span.end()
