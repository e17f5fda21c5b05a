"""Django's lazy objects in frame locals: no query while an event is built (decision 9). Real Django."""

from __future__ import annotations

import sys
import textwrap

import pytest

from tests.unit.test_client import SET_UP, run

DJANGO = (
    SET_UP
    + """
import json
import django
from django.conf import settings as conf
conf.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
)
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.utils.functional import SimpleLazyObject
call_command("migrate", verbosity=0)
User.objects.create(username="ros" + "alind")

class Queries:
    # What SQLite really ran; Django's own log also lists what a wrapper refused.
    def __enter__(self):
        self.seen = []
        connection.connection.set_trace_callback(self.seen.append)
        return self.seen
    def __exit__(self, *exc_info):
        connection.connection.set_trace_callback(None)

class Holder:
    def __init__(self, users): self.users = users
    def __repr__(self): return f"Holder({self.users!r})"

def report(make):
    with Queries() as queries:
        try:
            make()
        except ValueError as exc:
            client.capture_exception(exc, handled=True, mechanism="tests")
    body = sender.bodies[-1]
    event = json.loads(body.split(b"\\n")[2])
    frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
    return len(queries), frames[-1]["vars"], body

client.ensure()
"""
)


def django(program: str) -> str:
    pytest.importorskip("django")
    done = run(textwrap.dedent(DJANGO) + textwrap.dedent(program))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_querysets() -> None:
    """An unevaluated queryset in locals, a dict, a list, an object's repr: no query, and no row shown."""
    django(
        """
        def work():
            users = User.objects.all()
            nested = {"deep": [{"users": users}]}
            deeper = {"a": {"b": {"c": {"d": {"e": {"f": users}}}}}}
            holder = Holder(users)
            raise ValueError("boom")

        count, local, body = report(work)
        assert count == 0, count
        assert local["users"] == "<QuerySet of auth.User (not evaluated)>", local
        assert b"ros" b"alind" not in body
        assert "not evaluated" in str(local["nested"])
        assert "needs the database" in local["holder"], local
        """
    )


def test_evaluated_querysets_and_models() -> None:
    """An evaluated queryset shows its length, a model its label and key, a deferred field stays deferred."""
    django(
        """
        def work():
            users = User.objects.all()
            len(users)
            user = users[0]
            deferred = User.objects.only("pk").get()
            raise ValueError("boom")

        count, local, body = report(work)
        assert count == 2, count  # its own two
        assert local["users"] == "<QuerySet of auth.User (1 rows)>", local
        assert local["user"] == local["deferred"] == "<auth.User pk=1>", local
        """
    )


def test_lazy_objects() -> None:
    """A SimpleLazyObject stays unevaluated, at the top and nested; an evaluated one shows what it wraps."""
    django(
        """
        evaluated = []

        def load():
            evaluated.append(1)
            return User.objects.get()

        ready = SimpleLazyObject(load)
        ready.username
        evaluated.clear()

        def work():
            user = SimpleLazyObject(load)
            context = {"user": user, "list": [user]}
            done = ready
            raise ValueError("boom")

        count, local, body = report(work)
        assert (count, evaluated) == (0, []), (count, evaluated)
        assert local["user"] == "<SimpleLazyObject (not evaluated)>", local
        assert local["context"]["user"] == "<SimpleLazyObject (not evaluated)>", local
        assert local["done"] == "<auth.User pk=1>", local
        """
    )


def test_contexts_of_the_caller() -> None:
    """The same in the contexts that a caller passes (`capture_custom_exception(context=...)`)."""
    django(
        """
        evaluated = []
        lazy = SimpleLazyObject(lambda: evaluated.append(1) or User.objects.get())
        with Queries() as queries:
            client.capture_exception(
                ValueError("boom"), handled=True, mechanism="tests",
                contexts={"custom": {"user": lazy, "users": User.objects.all(), "list": [lazy]}},
            )
        assert (len(queries), evaluated) == (0, [])
        assert b"not evaluated" in sender.bodies[-1]
        """
    )


def test_the_applications_own_capture() -> None:
    """The guard holds for sentry_sdk's own capture calls too, and sentry_sdk's annotations still work."""
    django(
        """
        import sentry_sdk

        def work():
            users = User.objects.all()
            password = "hunter" + "2"
            raise ValueError("boom")

        with Queries() as queries:
            try:
                work()
            except ValueError:
                sentry_sdk.capture_exception()
        assert len(queries) == 0
        assert b"hunter" b"2" not in sender.bodies[-1] and b"not evaluated" in sender.bodies[-1]
        """
    )


def test_without_django() -> None:
    """Where Django is not loaded the guard costs a look-up, and no import of it."""
    from otel_sentry.sentry import reprs

    if "django.db" not in sys.modules:
        assert reprs.text(object()) is None
    assert reprs.text("text") is None
    assert reprs.plain({"a": [1, ("b", None)]}) == {"a": [1, ["b", None]]}
