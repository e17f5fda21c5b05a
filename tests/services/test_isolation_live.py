"""Done 7, on a real gunicorn: nothing of one request is on another's event; building an event touches no database."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from otel_sentry.cli.receiver import Receiver
from otel_sentry.demo import servers
from tests.support import mall
from tests.support.relay import assert_relay_ok
from tests.support.studio import BIN, LAUNCHER

pytestmark = pytest.mark.services

SITE = """
import os
from urllib.parse import urlsplit
db = urlsplit(os.environ["DATABASE_URL"])
SECRET_KEY = "x"
ROOT_URLCONF = "urls"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "HOST": db.hostname, "PORT": db.port,
                         "USER": db.username, "NAME": db.path.strip("/"), "CONN_MAX_AGE": None}}
"""
URLS = '''
import time
import sentry_sdk
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, connection, transaction
from django.http import Http404, HttpResponse
from django.urls import path

def hello(request, name):
    """The app talks to sentry_sdk itself, as many do."""
    sentry_sdk.set_user({"id": name})
    sentry_sdk.set_tag("tenant", name)
    time.sleep(float(request.GET.get("sleep", 0)))
    if "fail" in request.GET:
        raise RuntimeError(f"failed for {name}")
    return HttpResponse(name)

def anonymous(request):
    raise LookupError("nobody")

def duplicate(request):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS once (id int primary key)")
        cursor.execute("INSERT INTO once VALUES (1) ON CONFLICT DO NOTHING")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO once VALUES (1)")
    except IntegrityError:
        return HttpResponse("twice")

def queryset(request):
    rows = Group.objects.filter(name="secret rows")
    queries = len(connection.queries_log)
    raise ValueError("with a queryset in the frame")

def missing(request):
    raise Http404("no")

def denied(request):
    raise PermissionDenied("no")

urlpatterns = [path("hello/<name>/", hello), path("anonymous/", anonymous), path("duplicate/", duplicate),
               path("queryset/", queryset), path("missing/", missing), path("denied/", denied)]
'''
WSGI = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""


@pytest.fixture(params=["sync", "gthread"])
def site(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, receiver: Receiver, postgres_url: str
) -> Iterator[str]:
    """A site on one gunicorn worker; yields its URL. With gthread eight requests run at a time."""
    for name, text in (("site_settings", SITE), ("urls", URLS), ("wsgi", WSGI)):
        (tmp_path / f"{name}.py").write_text(text)
    bind = f"127.0.0.1:{servers.free_port()}"
    threads = ["--threads", "8"] if request.param == "gthread" else []
    path = os.pathsep.join((str(BIN), os.environ.get("PATH", "")))
    env = {**os.environ, "PATH": path, "SENTRY_DSN": receiver.dsn, "SENTRY_ENVIRONMENT": "dev"}
    env["DATABASE_URL"] = postgres_url
    process = subprocess.Popen([LAUNCHER, "gunicorn", "wsgi", "--bind", bind, *threads], cwd=tmp_path, env=env)
    try:
        _wait(f"http://{bind}/hello/up/")
        receiver.wait_for(lambda r: len(r.transactions) >= 1)
        receiver.clear()
        yield f"http://{bind}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


def _wait(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the site did not start")


def _get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        exc.close()
        return exc.code


def test_users_of_one_thread_do_not_mix(site: str, receiver: Receiver) -> None:
    """alice, then somebody unknown who fails, then bob who fails: each event carries its own user or none."""
    _get(f"{site}/hello/alice/")
    _get(f"{site}/anonymous/")
    _get(f"{site}/hello/bob/?fail=1")
    receiver.wait_for(lambda r: len(r.events) >= 2 and len(r.transactions) >= 3)
    nobody, bob = sorted(receiver.events, key=lambda e: e["exception"]["values"][-1]["type"])
    assert "alice" not in json.dumps(nobody) and "user" not in nobody
    assert bob["user"]["id"] == "bob" and bob["tags"]["tenant"] == "bob" and "alice" not in json.dumps(bob)
    for transaction in receiver.transactions:
        assert_relay_ok(transaction)
    (first,) = [t for t in receiver.transactions if "alice" in json.dumps(t)]
    assert first["user"]["id"] == "alice"


def test_concurrent_users_do_not_mix(site: str, receiver: Receiver) -> None:
    """Forty requests of ten users, interleaved, half of them failing: nothing sent carries another's name."""
    names = [f"user{number}x" for number in range(10)]
    urls = [f"{site}/hello/{name}/?sleep=0.02{'&fail=1' if turn % 2 else ''}" for turn in range(4) for name in names]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(_get, urls))
    receiver.wait_for(lambda r: len(r.transactions) >= 40 and len(r.events) >= 20, 20)
    for one in [*receiver.events, *receiver.transactions]:
        own = one["user"]["id"]
        assert [name for name in names if name in json.dumps(one)] == [own]
    assert len(receiver.events) == 20


def test_what_the_app_handles_is_no_issue(site: str, receiver: Receiver) -> None:
    """A caught IntegrityError, Http404, PermissionDenied: no issue, though spans record them (decision 6)."""
    assert [_get(f"{site}/{page}/") for page in ("duplicate", "missing", "denied")] == [200, 404, 403]
    receiver.wait_for(lambda r: len(r.transactions) >= 3)
    time.sleep(0.5)
    assert receiver.events == []
    status = {t["transaction"]: t["contexts"]["trace"]["status"] for t in receiver.transactions}
    assert status == {"GET /duplicate/": "ok", "GET /missing/": "not_found", "GET /denied/": "permission_denied"}


def test_building_an_event_runs_no_query(site: str, receiver: Receiver) -> None:
    """Decision 9: a lazy QuerySet among the frame's variables is shown unevaluated; the trace has no query."""
    assert _get(f"{site}/queryset/") == 500
    receiver.wait_for(lambda r: r.events and r.transactions)
    (event,) = receiver.events
    assert_relay_ok(event)
    variables = event["exception"]["values"][-1]["stacktrace"]["frames"][-1]["vars"]
    assert "not evaluated" in variables["rows"]
    (transaction,) = receiver.transactions
    assert transaction["spans"] == []


# --- Fifty users at once, in requests and in their tasks; the mall of tests/apps/parity ---

NAMES = [f"user{number:02}x" for number in range(50)]
ODD = [name for name in NAMES if name[-2] in "13579"]  # these fail
GUNICORN = ["gunicorn", "mall.wsgi", "--bind", "127.0.0.1:{port}", "--log-level", "warning"]
#: A server whose requests interleave in one process, the pool of a worker whose tasks do, and the view.
CROWDS = {
    "threads": ([*GUNICORN, "--threads", "50"], ["threads", "-c", "25"], "talk"),
    "greenlets": ([*GUNICORN, "-k", "gevent"], ["gevent", "-c", "25"], "talk"),
    "asyncio": (["uvicorn", "mall.asgi:application", "--port", "{port}"], None, "talk-async"),
}


@pytest.fixture(scope="module")
def users_database(postgres_url: str) -> Iterator[str]:
    with mall.database(postgres_url, *NAMES) as url:
        yield url


@pytest.mark.once
@pytest.mark.parametrize("crowd", CROWDS)
def test_nothing_carries_data_of_two(
    crowd: str, receiver: Receiver, users_database: str, valkey_url: str, tmp_path: pathlib.Path
) -> None:
    """Fifty users at once: each event, transaction and log has the marks of one user only, and each trace has one."""
    web, pool, view = CROWDS[crowd]
    port = servers.free_port()
    more = {"OTEL_SENTRY_LOGS": "1", "SENTRY_SEND_DEFAULT_PII": "1"}
    with mall.processes(tmp_path, mall.environ(receiver, users_database, valkey_url, **more)) as running:
        running.start([LAUNCHER, *(part.format(port=port) for part in web)])
        if pool is not None:
            worker = [LAUNCHER, "celery", "-A", "mall.tasks", "worker", "-l", "INFO", "--without-gossip",
                      "--without-mingle", "-P", *pool]  # fmt: skip
            running.wait_for(running.start(worker), r"celery@\S+ ready")
        _wait_for_port(port)
        browsers = {name: mall.Browser(port) for name in NAMES}
        with ThreadPoolExecutor(50) as visitors:
            list(visitors.map(lambda name: browsers[name].enter(name), NAMES))
            receiver.wait_for(lambda one: sum("enter" in t["transaction"] for t in one.transactions) == 50, 20)
            receiver.clear()
            answers = list(visitors.map(lambda name: browsers[name].ask(f"/{view}/{name}/"), NAMES))
        assert [name for name, status in zip(NAMES, answers, strict=True) if status == 500] == ODD, running.text()
        each = 1 if pool is None else 2
        receiver.wait_for(lambda one: len(one.transactions) >= each * 50 and len(one.events) >= each * len(ODD), 30)
    everything = {"event": receiver.events, "transaction": receiver.transactions, "log": _logs(receiver)}
    _one_user_each(everything, each)


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            mall.Browser(port).ask("/nowhere/")
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _logs(receiver: Receiver) -> list[dict[str, Any]]:
    """The records of the view and of the task; others name users in passing (an access log, "Task ... received")."""
    found = [one for payload in receiver.items("log") for one in payload["items"]]
    return [one for one in found if re.search(r"user\d\dx", one["body"]) and "/" not in one["body"]]


def _one_user_each(everything: dict[str, list[dict[str, Any]]], each: int) -> None:
    """*each*: the number of places (view, task) that every user has been in."""
    owners: dict[str, str] = {}
    ids: dict[str, str] = {}
    counts: dict[tuple[str, str], int] = {}
    for kind, items in everything.items():
        for one in items:
            marks = set(re.findall(r"user\d\dx", json.dumps(one)))
            assert len(marks) == 1, (kind, marks, one)
            (name,) = marks
            trace = one.get("trace_id") or one["contexts"]["trace"]["trace_id"]
            assert owners.setdefault(trace, name) == name, (kind, trace)
            attributes = one.get("attributes") or {}
            user_id = (one.get("user") or {}).get("id") or (attributes.get("user.id") or {}).get("value")
            if user_id is not None:
                assert ids.setdefault(name, str(user_id)) == str(user_id)
            if kind != "log" or re.search("begins|ends", one["body"]):  # not what Celery says of a failed task
                counts[kind, name] = counts.get((kind, name), 0) + 1
            if kind == "event":
                assert f"crumb of {name}" in [crumb["message"] for crumb in one["breadcrumbs"]["values"]]
            elif kind == "transaction":
                assert f"speech of {name}" in [span.get("description") for span in one["spans"]]
    assert sorted(ids) == NAMES and len(set(ids.values())) == len(NAMES) == len(owners)
    wanted = {("transaction", name): each for name in NAMES} | {("log", name): 2 * each for name in NAMES}
    assert counts == wanted | {("event", name): each for name in ODD}
