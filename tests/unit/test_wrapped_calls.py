"""What our wrappers must leave as it was: results, exceptions, who may do what, and the program's own spans."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import types
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider

from otel_sentry.privacy.keys import is_sensitive_key

psycopg2 = pytest.importorskip("psycopg2")

DJANGO = """
    import asyncio, functools, json, os, pathlib, sys
    os.environ["OTEL_PYTHON_DJANGO_EXCLUDED_URLS"] = "health"
    directory, found = pathlib.Path(sys.argv[1]), {}
    (directory / "page.html").write_text("page")
    from django.conf import settings
    settings.configure(
        SECRET_KEY="k", ALLOWED_HOSTS=["testserver"], ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [directory]}],
    )
    import django
    django.setup()
    from asgiref.sync import markcoroutinefunction
    from django.contrib.auth import decorators, get_user_model, password_validation
    from django.core.cache import CacheHandler
    from django.core.management import call_command
    from django.db import connection
    from django.http import StreamingHttpResponse
    from django.template.backends import django as templates
    from django.template.loader import render_to_string
    from django.test import AsyncClient, Client, RequestFactory
    from django.urls import path
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from otel_sentry import guard
    from otel_sentry_django import DjangoInstrumentor, caches, crumbs, security, spans

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    tracer = provider.get_tracer("tests")

    def parents():
        ended = exporter.get_finished_spans()
        names = {span.context.span_id: span.name for span in ended}
        exporter.clear()
        return {span.name: names.get(span.parent.span_id) if span.parent else None for span in ended}

    def row():
        with tracer.start_as_current_span("row"):
            pass

    def view(request):
        def rows():
            with tracer.start_as_current_span("rows"):
                yield "1"
                row()
            yield "2"
        return StreamingHttpResponse(rows())

    async def async_view(request):
        async def rows():
            with tracer.start_as_current_span("rows"):
                yield "1"
                row()
            yield "2"
        return StreamingHttpResponse(rows())

    urlpatterns = [path("view", view), path("async", async_view)]
    DjangoInstrumentor().instrument(tracer_provider=provider)

    b"".join(Client().get("/view").streaming_content)
    found["stream"] = parents()

    async def stream():
        return [part async for part in (await AsyncClient().get("/async")).streaming_content]

    asyncio.run(stream())
    found["async stream"] = parents()
    found["bad host"] = [Client(HTTP_HOST="evil.example").get("/view").status_code, list(parents())]

    spans.trace_templates(templates)
    with tracer.start_as_current_span("root"):
        page = pathlib.Path("page.html")
        found["template"] = render_to_string(page if django.VERSION < (6,) else str(page))

    class Nobody:
        def __init__(self):
            markcoroutinefunction(self)

        async def __call__(self, user):
            return False

    async def secret(request):
        return "secret"

    async def visitor():
        return None

    crumbs.decorators(decorators)
    request = RequestFactory().get("/")
    request.auser = visitor
    answer = asyncio.run(decorators.user_passes_test(Nobody(), login_url="/login")(secret)(request))
    found["denied"] = getattr(answer, "status_code", answer)

    cache = CacheHandler({"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})["default"]

    def keys():
        yield "a"
        raise KeyError("theirs")

    try:
        cache.get_many(keys())
    except KeyError as exc:
        found["keys"] = str(exc)

    class Fails:
        def password_changed(self, password, user=None):
            raise ValueError

    try:
        password_validation.password_changed("hunter" + "2", None, [Fails()])
    except ValueError as exc:
        tb, found["names"] = exc.__traceback__.tb_next, []
        while tb is not None:
            found["names"] += [name for name, value in tb.tb_frame.f_locals.items() if "hunter2" in repr(value)]
            tb = tb.tb_next

    notes = []
    security.security.note = lambda name, outcome, who, **more: notes.append(f"{name} {outcome}")
    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create_user("trillian")
    user.is_staff = True
    user.save(update_fields=["last_login"])
    found["unsaved"] = list(notes)
    user.save()
    found["saved"] = notes[len(found["unsaved"]):]

    class Segment:
        request = functools.partial(lambda _request: {"data": "typed", "url": "u"}, request)

    security.current_segment = lambda: Segment
    for _ in range(3000):
        security._without_body()
    found["without body"] = Segment.request()
    found["swallowed"] = guard.swallowed
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def django(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one program with everything wrapped has found."""
    pytest.importorskip("django")
    arguments = [sys.executable, "-c", textwrap.dedent(DJANGO), str(tmp_path_factory.mktemp("django"))]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["swallowed"] == {}
    return found


@pytest.mark.parametrize(("kind", "name"), [("stream", "GET view"), ("async stream", "GET async")])
def test_span_across_yields(django: dict[str, Any], kind: str, name: str) -> None:
    """A span that is open across a streaming body's `yield` is the parent of what follows in it."""
    assert django[kind] == {"row": "rows", "rows": name, name: None}


def test_bad_host(django: dict[str, Any]) -> None:
    """With excluded URLs, a request with a Host that Django refuses has its span as well."""
    status, names = django["bad host"]
    assert (status, len(names)) == (400, 1)


def test_template_by_path(django: dict[str, Any]) -> None:
    """A template that is named by a path is rendered, as Django before 6 does."""
    assert django["template"] == "page"


def test_asynchronous_permission_test(django: dict[str, Any]) -> None:
    """A callable object that is marked as a coroutine function keeps out whom it keeps out without us."""
    assert django["denied"] == 302


def test_generator_of_keys(django: dict[str, Any]) -> None:
    """What a program's generator of cache keys raises reaches the program."""
    assert django["keys"] == "'theirs'"


def test_names_of_passwords(django: dict[str, Any]) -> None:
    """In a traceback through our wrapper, every variable that holds the password has a name that is filtered."""
    assert django["names"]
    assert all(map(is_sensitive_key, django["names"]))


def test_flags_that_are_not_saved(django: dict[str, Any]) -> None:
    """A changed `is_staff` is told of when it is saved, and not with other fields."""
    assert django["unsaved"] == ["sign_up ok"]
    assert django["saved"] == ["staff_changed granted"]


def test_many_logins_in_one_request(django: dict[str, Any]) -> None:
    """Thousands of logins in one request leave one wrapper around its description."""
    assert django["without body"] == {"url": "u"}


class _Cursor:
    connection: Any = None
    rowcount = 3


def test_suppressed_statements() -> None:
    """A statement under `suppress_instrumentation` leaves nothing on the program's own span."""
    from otel_sentry_postgres.tracing import Tracer, Tracers

    provider, cursor = TracerProvider(), _Cursor()
    cursor.connection = types.SimpleNamespace(info=types.SimpleNamespace(dbname="d", host="h", port=1, user="u"))
    tracer = Tracers(psycopg2, "tests", "1", Tracer, {"tracer_provider": provider})._made(cursor.connection)
    with provider.get_tracer("tests").start_as_current_span("mine") as span, suppress_instrumentation():
        assert tracer.run(cursor, lambda _: 7, ("SELECT 1",), {}) == 7
        with pytest.raises(ZeroDivisionError):
            tracer.run(cursor, lambda _: 1 / 0, ("SELECT 1",), {})
    assert not getattr(span, "attributes", None)


def test_connection_factory_of_its_own() -> None:
    """A connection factory of psycopg2 that returns something else than a connection works as without us."""
    from otel_sentry_postgres import psycopg2_

    connect = psycopg2_._connecting(lambda dsn, connection_factory=None: connection_factory(dsn))
    assert connect("dsn", connection_factory=lambda dsn: (dsn,)) == ("dsn",)


def test_one_expected_exception() -> None:
    """Celery's `throws` may be one class, too."""
    pytest.importorskip("celery")
    from otel_sentry_celery import failures

    sender, unexpected = types.SimpleNamespace(throws=KeyError), ValueError()
    assert failures.of_signal({"sender": sender, "exception": KeyError()}) is None
    assert failures.of_signal({"sender": sender, "exception": unexpected}) is unexpected
