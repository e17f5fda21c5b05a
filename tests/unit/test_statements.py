"""What spans say of SQL statements, and where the program asked for them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest

from otel_sentry import location, runtime
from otel_sentry.convention.constraints import constraint_of
from otel_sentry.runtime import Runtime
from otel_sentry.settings import load
from otel_sentry_postgres.statements import MAX_STATEMENT, read, text_of


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        ("select 1", "SELECT"),
        ('SELECT "a"."id" FROM "a" INNER JOIN "b" ON (x = y) WHERE "a"."n" = %s FOR UPDATE', "SELECT a b"),
        ("INSERT INTO s.a(x) SELECT y FROM b ON CONFLICT DO UPDATE SET x = 1", "INSERT s.a SELECT b"),
        ("UPDATE posts SET x = 'secret from users' WHERE EXTRACT(YEAR FROM at) = 2020", "UPDATE posts"),
        ("DELETE FROM ONLY a WHERE b IS DISTINCT FROM c", "DELETE a"),
        ("WITH q AS (SELECT * FROM z) SELECT * FROM q", "WITH SELECT z SELECT q"),
        ("CREATE TABLE IF NOT EXISTS a (id int)", "CREATE a"),
        ("COPY a (b, c) FROM STDIN", "COPY a"),
        ("COPY (SELECT 1 FROM a) TO STDOUT", "COPY SELECT a"),
        ("SELECT * FROM generate_series(1, 2)", "SELECT"),
        ("/* comment */ TRUNCATE TABLE a", "TRUNCATE a"),
        ("BEGIN;", "BEGIN"),
        ("CALL p(1)", "CALL p"),
        ("-- nothing", ""),
        ("", ""),
    ],
)
def test_summary(statement: str, summary: str) -> None:
    """First word and tables, never a value."""
    assert read(statement).summary == summary


def test_long_statements() -> None:
    """The text of an INSERT with thousands of rows is cut, the summary has at most 255 characters."""
    rows = ",".join(f"('secret {n}', {n})" for n in range(50_000))
    found = read(f"INSERT INTO a VALUES {rows}")
    assert found.summary == "INSERT a" and "secret" not in found.text and len(found.text) < MAX_STATEMENT
    many = read("SELECT * FROM a" + "".join(f" JOIN table_number_{n} USING (id)" for n in range(50)))
    assert len(many.summary) <= 255 and many.summary.split()[-1].startswith("table_number_")


def test_a_long_statement_is_read_once() -> None:
    """A span asks three times for the same statement: reading a long one takes milliseconds."""
    statement = "INSERT INTO a VALUES " + ", ".join(["(%s, %s, %s)"] * 1000)
    assert read(statement) is read(statement)


def test_every_kind_of_statement() -> None:
    """Text, bytes, composed SQL and templates are text; what is neither is empty."""

    class Composed:
        def as_string(self, context: Any) -> str:
            return f"SELECT {context}"

    class Template:
        strings = ("SELECT ", "")

    kinds = ["SELECT 1", b"SELECT 1", memoryview(b"SELECT 1"), Composed(), Template(), 5]
    assert [text_of(one, "x") for one in kinds] == ["SELECT 1"] * 3 + ["SELECT x", "SELECT ?", ""]


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Iterator[None]:
    nothing: Any = None
    runtime.set_current(Runtime(load({}, **request.param), None, None, nothing, nothing))
    yield
    runtime.set_current(None)


def called_by_a_library() -> dict[str, Any]:
    """As an installed package would."""
    names = {"of_caller": location.of_caller, "__name__": "library.queries"}
    code = compile("def run(): return of_caller()", "/venv/lib/python3.12/site-packages/library/queries.py", "exec")
    exec(code, names)
    found: dict[str, Any] = names["run"]()  # type: ignore[operator]
    return found


def test_location() -> None:
    """The innermost frame that is neither installed, nor the standard library, nor ours."""
    found = called_by_a_library()
    assert found["code.file.path"] == __file__
    assert found["code.function.name"].endswith("called_by_a_library")
    assert isinstance(found["code.line.number"], int)


@pytest.mark.parametrize("settings", [{"in_app_include": ("library",)}], indirect=True)
def test_location_in_a_library_of_yours(settings: None) -> None:
    """`SENTRY_IN_APP_INCLUDE` makes an installed package the program's own."""
    assert called_by_a_library()["code.function.name"] == "library.queries.run"


@pytest.mark.parametrize("settings", [{"in_app_exclude": (__name__.partition(".")[0], "_pytest")}], indirect=True)
def test_location_outside_of_the_program(settings: None) -> None:
    """Where no frame is the program's own there is nothing to say."""
    found = called_by_a_library()
    assert found == {} or found["code.file.path"] != __file__


class Broken(Exception):
    """As asyncpg says it."""

    constraint_name = "one_account"


def test_constraint() -> None:
    """The name comes from the exception or its cause; one that merely happened before has no say."""
    try:
        raise ValueError from Broken("Key (email)=(ada@example.org) already exists")
    except ValueError as exc:
        assert constraint_of(exc) == "one_account"
    try:
        try:
            raise Broken
        except Broken:
            raise KeyError
    except KeyError as exc:
        assert constraint_of(exc) is None


def test_django_asks_whether_the_driver_is_traced() -> None:
    """contrib's cursors, by proxy or subclass, are, a plain one is not; and Django's wrapper comes first in the row."""
    import sqlite3

    from opentelemetry.instrumentation import dbapi

    from otel_sentry_postgres import django_wrapper

    connection = sqlite3.connect(":memory:")
    integration = dbapi.DatabaseApiIntegration("t", "sqlite")
    cursor = connection.cursor()
    assert not django_wrapper.is_traced(cursor)
    assert django_wrapper.is_traced(dbapi.get_traced_cursor_proxy(cursor, integration))
    connection.close()

    wrappers: list[Any] = ["the user's, for one `with` block, which takes away the last"]
    one = types.SimpleNamespace(execute_wrappers=wrappers, vendor="sqlite", settings_dict={"NAME": "x"})
    for _ in range(2):
        django_wrapper._add(one)
    assert len(wrappers) == 2 and str(wrappers[-1]).startswith("the user")


def test_origin_of_djangos_spans() -> None:
    """What Django's wrapper makes is a database span of an instrumentation, not a manual one."""
    from otel_sentry.convention.origin import DJANGO_DB_SCOPE, origin_of

    assert origin_of(DJANGO_DB_SCOPE) == ("auto.db.otel.django", "dbapi")
