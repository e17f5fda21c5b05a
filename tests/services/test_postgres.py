"""psycopg and psycopg2 against a real Postgres."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg2
import psycopg2.extras
import psycopg2.sql
import psycopg_pool
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor as ContribInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from psycopg2 import connect as early_connect

from otel_sentry import runtime
from otel_sentry.cli.receiver import Receiver
from otel_sentry.convention.constraints import constraint_of
from otel_sentry.runtime import Runtime
from otel_sentry.settings import load
from otel_sentry_postgres import Psycopg2Instrumentor, PsycopgInstrumentor

pytestmark = pytest.mark.services


@pytest.fixture
def exporter(request: pytest.FixtureRequest) -> Iterator[InMemorySpanExporter]:
    """Both drivers instrumented on a stock provider; the test's parameter is settings."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    nothing: Any = None
    runtime.set_current(Runtime(load({}, **getattr(request, "param", {})), None, None, nothing, nothing))
    PsycopgInstrumentor().instrument(tracer_provider=provider)
    Psycopg2Instrumentor().instrument(tracer_provider=provider)
    yield exporter
    PsycopgInstrumentor().uninstrument()
    Psycopg2Instrumentor().uninstrument()
    runtime.set_current(None)


@pytest.fixture(scope="module")
def before(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection from before the instrumentation."""
    with psycopg.connect(postgres_url) as connection:
        yield connection


def statement(span: ReadableSpan) -> Any:
    attributes = span.attributes or {}
    return attributes.get("db.query.text", attributes.get("db.statement"))


def seen(exporter: InMemorySpanExporter) -> list[tuple[Any, ...]]:
    """Name, text, summary and rows of each span."""
    spans = exporter.get_finished_spans()
    values = [span.attributes or {} for span in spans]
    return [
        (span.name, statement(span), one.get("db.query.summary"), one.get("db.response.returned_rows"))
        for span, one in zip(spans, values, strict=True)
    ]


def test_psycopg_3(before: psycopg.Connection[Any], exporter: InMemorySpanExporter) -> None:
    """One CLIENT span a statement, whatever sends it, also on a connection that was made before; no literals."""
    with before.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE numbers (n int)")
        cursor.executemany("INSERT INTO numbers VALUES (%s)", [(1,), (2,), (3,)])
        cursor.execute(query=b"SELECT n FROM numbers WHERE n < 3 AND 'secret' <> ''")
        query = psycopg.sql.SQL("SELECT n FROM {} WHERE n < {}")
        cursor.execute(query.format(psycopg.sql.Identifier("numbers"), psycopg.sql.Literal(2)))
        assert list(cursor.stream("SELECT n FROM numbers ORDER BY n")) == [(1,), (2,), (3,)]
        with cursor.copy("COPY numbers FROM STDIN") as copy:
            copy.write_row((4,))
    with before.cursor("named", row_factory=psycopg.rows.dict_row) as named:
        named.itersize = 2
        assert len(list(named.execute("SELECT n FROM numbers"))) == 4
    assert psycopg.ClientCursor(before).execute("SELECT count(*) FROM numbers").fetchone() == (4,)
    before.rollback()
    assert seen(exporter) == [
        ("CREATE", "CREATE TEMP TABLE numbers (n int)", "CREATE numbers", None),
        ("INSERT", "INSERT INTO numbers VALUES (%s)", "INSERT numbers", 3),
        ("SELECT", "SELECT n FROM numbers WHERE n < ? AND ? <> ?", "SELECT numbers", 2),
        ("SELECT", 'SELECT n FROM "numbers" WHERE n < ?', "SELECT numbers", 1),
        ("SELECT", "SELECT n FROM numbers ORDER BY n", "SELECT numbers", None),
        ("COPY", "COPY numbers FROM STDIN", "COPY numbers", 1),
        ("SELECT", "SELECT n FROM numbers", "SELECT numbers", None),
        ("SELECT", "SELECT count(*) FROM numbers", "SELECT numbers", 1),
    ]
    (span, *_) = exporter.get_finished_spans()
    assert span.kind is trace.SpanKind.CLIENT
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "opentelemetry.instrumentation.psycopg"
    names = span.attributes or {}
    assert {"postgres", "127.0.0.1"} <= {names.get("db.name"), names.get("db.namespace"), names.get("net.peer.name"),
                                         names.get("server.address")}  # fmt: skip


def test_psycopg_3_async(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """The same for asyncio: `execute`, `executemany`, `stream`, `copy`, server-side cursors, pools."""

    async def run() -> None:
        async with psycopg_pool.AsyncConnectionPool(postgres_url, min_size=1, open=False) as pool:
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
                async with connection.cursor() as cursor:
                    await cursor.executemany("SELECT %s::int", [(1,), (2,)])
                    assert [row async for row in cursor.stream("SELECT generate_series(1, 3)")] == [(1,), (2,), (3,)]
                    async for _ in cursor.stream("SELECT generate_series(1, 4)"):
                        break
                    async with cursor.copy("COPY (SELECT 1) TO STDOUT") as copy:
                        assert [row async for row in copy.rows()] == [("1",)]
                async with connection.cursor("named") as named:
                    await named.execute("SELECT 5")
                    assert await named.fetchone() == (5,)

    asyncio.run(run())
    assert [one[:2] for one in seen(exporter)] == [
        ("SELECT", "SELECT ?"),
        ("SELECT", "SELECT %s::int"),
        ("SELECT", "SELECT generate_series(?, ?)"),
        ("SELECT", "SELECT generate_series(?, ?)"),
        ("COPY", "COPY (SELECT ?) TO STDOUT"),
        ("SELECT", "SELECT ?"),
    ]


class Loud(psycopg.Cursor[Any]):
    """A cursor factory of the application's that calls its base."""

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        return super().execute(*args, **kwargs)


def test_pool_and_cursor_factory(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """A pool's connections, with cursors of the application's own class: one span a statement."""
    with psycopg_pool.ConnectionPool(postgres_url, min_size=1, kwargs={"cursor_factory": Loud}, open=True) as pool:
        with pool.connection() as connection:
            assert type(connection.execute("SELECT 1")) is Loud
    assert [one[0] for one in seen(exporter)] == ["SELECT"]


def test_what_the_program_does_meanwhile(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """While rows stream in, the statement's span is not the current one; stopping early ends it."""
    with psycopg.connect(postgres_url) as connection:
        rows = connection.cursor().stream("SELECT generate_series(1, 3)")
        assert next(rows) == (1,)
        assert not trace.get_current_span().get_span_context().is_valid
        assert not exporter.get_finished_spans()
        rows.close()  # type: ignore[attr-defined]
    (span,) = exporter.get_finished_spans()
    assert span.status.is_unset


def test_psycopg2(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """Bytes, `sql.SQL`, COPY, procedures and named cursors are one span each, named after their verb."""
    connection = early_connect(postgres_url)
    with connection.cursor() as cursor:
        cursor.execute(query="CREATE TEMP TABLE numbers (n int)")
        psycopg2.extras.execute_values(cursor, "INSERT INTO numbers VALUES %s", [(1,), (2,)])
        cursor.execute(psycopg2.sql.SQL("SELECT n FROM numbers"))
        query = psycopg2.sql.SQL("SELECT {} FROM numbers WHERE n > {}")
        cursor.execute(query.format(psycopg2.sql.Identifier("n"), psycopg2.sql.Literal(0)))
        assert cursor.fetchall() == [(1,), (2,)]
        psycopg2.extras.execute_batch(cursor, "INSERT INTO numbers VALUES (%s)", [(3,), (4,)])
        cursor.copy_expert("COPY numbers FROM STDIN", io.StringIO("5\n"))
        cursor.copy_from(io.StringIO("6\n"), "numbers")
        cursor.callproc("upper", ["secret"])
        assert cursor.fetchone() == ("SECRET",)
    with connection.cursor("named") as named:
        named.execute("SELECT n FROM numbers")
        assert len(named.fetchall()) == 6
    connection.close()
    assert seen(exporter) == [
        ("CREATE", "CREATE TEMP TABLE numbers (n int)", "CREATE numbers", None),
        ("INSERT", "INSERT INTO numbers VALUES (?)", "INSERT numbers", 2),
        ("SELECT", "SELECT n FROM numbers", "SELECT numbers", 2),
        ("SELECT", 'SELECT "n" FROM numbers WHERE n > ?', "SELECT numbers", 2),
        ("INSERT", "INSERT INTO numbers VALUES (?);INSERT INTO numbers VALUES (?)", "INSERT numbers INSERT numbers", 1),
        ("COPY", "COPY numbers FROM STDIN", "COPY numbers", 1),
        ("COPY", "COPY numbers FROM STDIN", "COPY numbers", 1),
        ("CALL", "CALL upper", "CALL upper", 1),
        ("SELECT", "SELECT n FROM numbers", "SELECT numbers", None),
    ]


@pytest.mark.parametrize(
    ("options", "cursor", "row"),
    [
        ({}, {"cursor_factory": psycopg2.extras.DictCursor}, [1]),
        ({"cursor_factory": psycopg2.extras.RealDictCursor}, {}, {"n": 1}),
        ({"connection_factory": psycopg2.extras.DictConnection}, {}, [1]),
        ({"connection_factory": psycopg2.extras.RealDictConnection}, {"name": "named"}, {"n": 1}),
        ({"connection_factory": lambda dsn, **_: psycopg2.extensions.connection(dsn)}, {}, (1,)),
    ],
)
def test_psycopg2_factories(
    postgres_url: str,
    exporter: InMemorySpanExporter,
    options: dict[str, Any],
    cursor: dict[str, Any],
    row: Any,
) -> None:
    """Whoever chooses the classes of connection and cursor gets them, and one span a statement."""
    connection = psycopg2.connect(postgres_url, **options)
    factory = options.get("connection_factory")
    assert not isinstance(factory, type) or isinstance(connection, factory)
    with connection.cursor(**cursor) as one:
        assert isinstance(one, cursor.get("cursor_factory", psycopg2.extensions.cursor))
        one.execute("SELECT 1 AS n")
        assert one.fetchone() == row
    connection.close()
    assert [one[0] for one in seen(exporter)] == ["SELECT"]


@pytest.mark.parametrize("driver", [psycopg, psycopg2])
def test_errors(postgres_url: str, exporter: InMemorySpanExporter, driver: Any) -> None:
    """SQLSTATE and class of a failure are on the span; the constraint's name can be asked for."""
    connection = driver.connect(postgres_url)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE people (email text CONSTRAINT one_account UNIQUE)")
        cursor.execute("INSERT INTO people VALUES (%s)", ("ada@example.org",))
        with pytest.raises(driver.IntegrityError) as caught:
            cursor.execute("INSERT INTO people VALUES (%s)", ("ada@example.org",))
    connection.close()
    failed = exporter.get_finished_spans()[-1]
    attributes = failed.attributes or {}
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert (attributes["db.response.status_code"], attributes["error.type"]) == ("23505", "UniqueViolation")
    try:
        raise ValueError("as Django does") from caught.value
    except ValueError as exc:
        assert constraint_of(exc) == "one_account"
    assert constraint_of(ValueError()) is None and constraint_of(None) is None


@pytest.mark.parametrize("driver", [psycopg, psycopg2])
def test_closed_connections(postgres_url: str, exporter: InMemorySpanExporter, driver: Any) -> None:
    """The driver's own error is what the program gets."""
    connection = driver.connect(postgres_url)
    cursor = connection.cursor()
    connection.close()
    with pytest.raises((driver.OperationalError, driver.InterfaceError)):
        cursor.execute("SELECT 1")


def test_failed_copy(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """A COPY that the server refuses is an error with its SQLSTATE."""
    with psycopg.connect(postgres_url) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        with connection.cursor().copy("COPY nothing FROM STDIN"):
            pass
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, (span.attributes or {})["db.response.status_code"]) == (
        trace.StatusCode.ERROR,
        "42P01",
    )


@pytest.mark.parametrize("exporter", [{"slow_query_ms": 50}], indirect=True)
def test_slow_queries_name_the_caller(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """Past the threshold the span holds file, line and function of the program's own frame; below it does not."""

    async def asynchronous() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            await connection.execute("SELECT pg_sleep(0.06)")

    def synchronous(driver: Any) -> int:
        connection = driver.connect(postgres_url)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.execute("SELECT pg_sleep(0.06)")
        connection.close()
        return sys._getframe().f_lineno - 2

    lines = {synchronous(psycopg), synchronous(psycopg2)}
    asyncio.run(asynchronous())
    found = [span.attributes or {} for span in exporter.get_finished_spans()]
    assert [one.get("code.file.path") for one in found] == [None, __file__, None, __file__, __file__]
    assert {found[1]["code.line.number"], found[3]["code.line.number"]} == lines
    assert str(found[4]["code.function.name"]).endswith("asynchronous")


@pytest.mark.parametrize("exporter", [{"sqlcommenter": True}], indirect=True)
@pytest.mark.parametrize("driver", [psycopg, psycopg2])
def test_sqlcommenter(postgres_url: str, exporter: InMemorySpanExporter, driver: Any) -> None:
    """On request the server sees the trace of each statement, COPY and bytes included; the span's text does not."""
    connection = driver.connect(postgres_url)
    connection.autocommit = True  # inside of a transaction pg_stat_activity stays as it was first read
    own = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    with connection.cursor() as cursor:
        for query in (own, own.encode()):
            cursor.execute(query)
            span = exporter.get_finished_spans()[-1]
            assert span.context is not None
            assert f"traceparent='00-{span.context.trace_id:032x}-{span.context.span_id:016x}" in cursor.fetchone()[0]
            assert statement(span) == own
        if driver is psycopg:
            with cursor.copy(f"COPY ({own}) TO STDOUT") as copy:
                assert b"traceparent=" in b"".join(bytes(part) for part in copy)
        else:
            psycopg2.extras.execute_values(cursor, f"{own} AND pid IN %s", [(connection.info.backend_pid,)])
            assert "traceparent=" in cursor.fetchone()[0]
            cursor.callproc("upper", ["a"])
    connection.close()


def test_contribs_own_call_does_not_instrument_twice(postgres_url: str, exporter: InMemorySpanExporter) -> None:
    """An application that calls contrib's instrumentor as well, or for one connection, still gets one span."""
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor as ContribPsycopg

    ContribInstrumentor().instrument()
    connection = psycopg2.connect(postgres_url)
    with ContribInstrumentor().instrument_connection(connection).cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()
    with psycopg.connect(postgres_url) as modern:
        ContribPsycopg().instrument_connection(modern).execute("SELECT 1")
    assert len(exporter.get_finished_spans()) == 2


def test_uninstrument_leaves_nothing_behind(postgres_url: str) -> None:
    """After `uninstrument` the drivers have their own functions back, and older connections make no spans."""
    names = [(psycopg.Cursor, "execute"), (psycopg.Cursor, "copy"), (psycopg.ServerCursor, "execute"),
             (psycopg.AsyncCursor, "stream"), (psycopg2, "_connect")]  # fmt: skip
    originals = [vars(owner)[name] for owner, name in names]
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for instrumentor in (PsycopgInstrumentor(), Psycopg2Instrumentor()):
        instrumentor.instrument(tracer_provider=provider)
    assert all(vars(owner)[name] is not original for (owner, name), original in zip(names, originals, strict=True))
    connection = psycopg2.connect(postgres_url)
    for instrumentor in (PsycopgInstrumentor(), Psycopg2Instrumentor()):
        instrumentor.uninstrument()
    assert [vars(owner)[name] for owner, name in names] == originals
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()
    assert not exporter.get_finished_spans()


def test_either_distribution_of_psycopg2_is_enough() -> None:
    """psycopg2-binary satisfies the dependency check when psycopg2 is not installed."""
    assert Psycopg2Instrumentor()._check_dependency_conflicts() is None


DJANGO = r"""
import sys
if sys.argv[3] == "psycopg2":
    sys.modules["psycopg"] = None  # Django takes the older driver then
import django
from django.conf import settings
from urllib.parse import urlsplit
url = urlsplit(sys.argv[1])
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"], USE_TZ=True, DATABASES={
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
                "HOST": url.hostname, "PORT": url.port},
    "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
})
import otel_sentry
otel_sentry.configure(dsn=sys.argv[2], traces_sample_rate=1.0, slow_query_ms=0)
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
django.setup()
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connections, transaction
for alias in ("default", "lite"):
    connection = connections[alias]
    with connection.schema_editor() as editor:
        editor.execute("CREATE TEMP TABLE django_content_type (id integer PRIMARY KEY, app_label varchar(100), "
                       "model varchar(100), CONSTRAINT one_type UNIQUE (app_label, model))")
    exporter.clear()
    with otel_sentry.span("root"):
        types = ContentType.objects.using(alias)
        types.bulk_create([ContentType(pk=1, app_label="secret", model="a")])
        assert [one.pk for one in types.iterator()] == [1]
        try:
            with transaction.atomic(using=alias):
                types.create(pk=2, app_label="secret", model="a")
        except IntegrityError:
            pass
    for span in exporter.get_finished_spans():
        found = dict(span.attributes or {})
        text = found.get("db.query.text") or found.get("db.statement", "")
        assert "secret" not in str(found), found
        if "django_content_type" in text:
            scope = span.instrumentation_scope.name.rpartition(".")[2]
            print(alias, scope, found.get("db.query.summary"), found.get("db.response.status_code"),
                  "error" if not span.status.is_ok and not span.status.is_unset else "ok",
                  str(found.get("code.function.name")).startswith("__main__."), sep="|")
"""


@pytest.mark.once
@pytest.mark.parametrize(
    ("driver", "disabled", "scope"),
    [("psycopg", "", "psycopg"), ("psycopg2", "", "psycopg2"), ("psycopg", "psycopg", "django_db")],
)
def test_django(postgres_url: str, receiver: Receiver, driver: str, disabled: str, scope: str) -> None:
    """One span a statement: the driver's where it is instrumented, else Django's own; `iterator()` has one too."""
    done = subprocess.run(
        [sys.executable, "-c", DJANGO, postgres_url, receiver.dsn, driver],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"default|{scope}|INSERT django_content_type|None|ok|True",
        f"default|{scope}|SELECT django_content_type|None|ok|True",
        f"default|{scope}|INSERT django_content_type|23505|error|True",
        "lite|django_db|INSERT django_content_type|None|ok|True",
        "lite|django_db|SELECT django_content_type|None|ok|True",
        "lite|django_db|INSERT django_content_type|None|error|True",
    ]
