"""psycopg and psycopg2 against a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg2
import psycopg2.extras
import psycopg2.sql
import pytest
from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor as ContribInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sentry_postgres import Psycopg2Instrumentor, PsycopgInstrumentor

pytestmark = pytest.mark.services


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Both drivers instrumented on a stock provider."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    PsycopgInstrumentor().instrument(tracer_provider=provider)
    Psycopg2Instrumentor().instrument(tracer_provider=provider)
    yield exporter
    PsycopgInstrumentor().uninstrument()
    Psycopg2Instrumentor().uninstrument()


def statement(span: ReadableSpan) -> Any:
    attributes = span.attributes or {}
    return attributes.get("db.query.text", attributes.get("db.statement"))


def test_psycopg_3_sync_and_async(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """A statement is one CLIENT span with its text, without its parameters, of contrib's scope."""

    async def select() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            await connection.execute("SELECT %s::int", (2,))

    with psycopg.connect(postgres_url) as connection:
        connection.execute("SELECT %s::int", (1,))
    asyncio.run(select())
    spans = exporter.get_finished_spans()
    assert [(span.name, statement(span)) for span in spans] == [("SELECT", "SELECT %s::int")] * 2
    assert spans[0].instrumentation_scope is not None
    assert spans[0].instrumentation_scope.name == "opentelemetry.instrumentation.psycopg"


def test_psycopg2_statements_are_text(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """Bytes and `sql.SQL` become text, and such spans are named after their verb."""
    connection = psycopg2.connect(postgres_url)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE numbers (n int)")
        psycopg2.extras.execute_values(cursor, "INSERT INTO numbers VALUES %s", [(1,), (2,)])
        cursor.execute(psycopg2.sql.SQL("SELECT n FROM numbers"))
        cursor.execute(
            psycopg2.sql.SQL("SELECT {}").format(psycopg2.sql.Identifier("n")) + psycopg2.sql.SQL(" FROM numbers")
        )
        assert cursor.fetchall() == [(1,), (2,)]
    connection.close()
    assert [(span.name, statement(span)) for span in exporter.get_finished_spans()] == [
        ("CREATE", "CREATE TEMP TABLE numbers (n int)"),
        ("INSERT", "INSERT INTO numbers VALUES (1),(2)"),
        ("SELECT", "SELECT n FROM numbers"),
        ("SELECT", 'SELECT "n" FROM numbers'),
    ]


def test_contribs_own_call_does_not_instrument_twice(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """An application that calls contrib's instrumentor as well still gets one span a statement."""
    ContribInstrumentor().instrument()
    connection = psycopg2.connect(postgres_url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()
    assert len(exporter.get_finished_spans()) == 1


def test_uninstrument_leaves_nothing_behind(postgres_url: str) -> None:
    """After `uninstrument` contrib's cursor tracer has its own methods back."""
    from opentelemetry.instrumentation.psycopg2 import CursorTracer

    before = CursorTracer.get_statement
    Psycopg2Instrumentor().instrument()
    assert CursorTracer.get_statement is not before
    Psycopg2Instrumentor().uninstrument()
    assert CursorTracer.get_statement is before


def test_either_distribution_of_psycopg2_is_enough() -> None:
    """psycopg2-binary satisfies the dependency check when psycopg2 is not installed."""
    assert Psycopg2Instrumentor()._check_dependency_conflicts() is None
