"""What costs nothing: attaching the user runs no statement at Postgres, cache spans copy no value."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import psycopg
import pytest

from otel_sentry.cli.receiver import Receiver
from tests.support import mall
from tests.support.servers import free_port

pytestmark = [pytest.mark.services, pytest.mark.once]


def statements(postgres_url: str, start: int) -> tuple[list[str], int]:
    """What Postgres has executed since byte *start* of its own log, and where that ends now."""
    with psycopg.connect(postgres_url) as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    data = (pathlib.Path(folder).parent / "log").read_bytes()
    found = re.findall(r"(?:statement|execute [^:]*): (.*)", data[start:].decode(errors="replace"))
    return [one for one in found if "auth_user" in one], len(data)


@pytest.mark.parametrize("page", ["pack/1", "look"])
def test_the_user_costs_no_query(
    page: str, receiver: Receiver, postgres_url: str, valkey_url: str, tmp_path: pathlib.Path
) -> None:
    """By Postgres's own log: the same statements with us and without, the user loaded by the view or not at all."""
    executed: list[list[str]] = []
    with mall.database(postgres_url, "ann") as url, psycopg.connect(postgres_url, autocommit=True) as admin:
        name = url.rpartition("/")[2]
        for setting in ("log_statement = 'all'", "log_min_messages = 'log'"):
            admin.execute(f'ALTER DATABASE "{name}" SET {setting}')
        for launcher in ([], [str(mall.LAUNCHER)]):
            port = free_port()
            with mall.processes(tmp_path, mall.environ(receiver, url, valkey_url)) as running:
                command = [sys.executable, "-m", "gunicorn", "mall.wsgi", "--bind", f"127.0.0.1:{port}"]
                running.wait_for(running.start([*launcher, *command]), "Booting worker")
                browser = mall.Browser(port)
                browser.enter("ann")
                _, start = statements(url, 0)
                browser.ask(f"/{page}/")
                executed.append(statements(url, start)[0])
    assert executed[0] == executed[1] != []
    (event,) = receiver.events or [{}]
    assert (event.get("user") or {}).get("id") == ("1" if page == "look" else None)


CACHES = """
import json, os, tracemalloc
import django
from django.conf import settings
settings.configure(CACHES={
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "redis": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["REDIS_URL"]},
})
import otel_sentry
otel_sentry.configure(dsn="http://e@127.0.0.1:9/1", traces_sample_rate=1.0)
django.setup()
from django.core.cache import caches
big, found = b"x" * 8_000_000, {}
for name in ("default", "redis"):
    cache = caches[name]
    for step, action in (("set", lambda: cache.set("big", big)), ("get", lambda: cache.get("big")),
                         ("set_many", lambda: cache.set_many({"big": big})),
                         ("get_many", lambda: cache.get_many(["big"]))):
        with otel_sentry.span("root"):
            action()  # what is made once only
            tracemalloc.start()
            action()
            found[f"{name} {step}"] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
print(json.dumps(found))
"""


def test_cache_spans_copy_no_value(valkey_url: str) -> None:
    """8 MB through Django's local and Redis cache: no copy more with cache spans (the sender needs a little)."""
    peaks = []
    for spans in ("1", "0"):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "REDIS_URL": valkey_url}
        env["OTEL_SENTRY_DJANGO_CACHE_SPANS"] = spans
        done = subprocess.run([sys.executable, "-c", CACHES], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        peaks.append(json.loads(done.stdout.splitlines()[-1]))
    for step, without in peaks[1].items():
        assert peaks[0][step] - without < 4_000_000, (step, peaks)
