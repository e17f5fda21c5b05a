"""contrib's Psycopg2Instrumentor, with every statement as text.

`psycopg2.extras.execute_values` and `execute_batch` pass bytes, and `psycopg2.sql.SQL` is neither text nor
`Composed`: contrib names such spans after the database and puts the object itself into the attribute.
"""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import wrapt
from opentelemetry.instrumentation.psycopg2 import CursorTracer
from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor as _Contrib
from psycopg2.sql import Composable

from otel_sentry.instrumentor import OneInstance

_METHODS = ("get_operation_name", "get_statement")


class Psycopg2Instrumentor(OneInstance, _Contrib):
    """Use it as contrib's; `psycopg2` and `psycopg2-binary` both count as the driver."""

    def _instrument(self, **kwargs: Any) -> None:
        super()._instrument(**kwargs)
        for name in _METHODS:
            wrapt.wrap_function_wrapper(CursorTracer, name, _with_text)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        for name in _METHODS:
            setattr(CursorTracer, name, getattr(CursorTracer, name).__wrapped__)


def _with_text(
    wrapped: Callable[..., str], tracer: Any, args: tuple[Any, Sequence[Any]], kwargs: dict[str, Any]
) -> str:
    cursor, statement_and_values = args
    if statement_and_values and not isinstance(statement_and_values[0], str):
        statement_and_values = (_text(statement_and_values[0], cursor), *statement_and_values[1:])
    return wrapped(cursor, statement_and_values)


def _text(statement: Any, cursor: Any) -> str:
    if isinstance(statement, Composable):
        return str(statement.as_string(cursor))
    if isinstance(statement, bytes | bytearray | memoryview):
        return bytes(statement).decode("utf-8", "replace")
    return ""
