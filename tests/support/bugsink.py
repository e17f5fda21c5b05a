"""A real Sentry-compatible server: Bugsink, in an environment of its own (a test tool only: its licence).

It stores and shows error events; it drops every other item, but keeps each envelope as it came.
The environment is made once, under `.cache`, and an empty migrated database is kept beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from otel_sentry.cli.envelope import Item, parse_envelope
from tests.support.servers import free_port
from tests.support.tools import Tool, Unavailable, end, last_words, run

VERSION = "2.6.1"
_TOOL = Tool("bugsink", "bugsink", VERSION)
_KEY = "b" * 32
_TOKEN = "c" * 40

_SETTINGS = """
from bugsink.settings.default import *
SECRET_KEY = "for-tests-on-loopback-only-" + "0123456789" * 4
DEBUG = False
SENTRY_DSN = None
DATABASES["default"]["NAME"] = {folder!r} + "/db.sqlite3"
DATABASES["snappea"]["NAME"] = {folder!r} + "/snappea.sqlite3"
SNAPPEA = {{"TASK_ALWAYS_EAGER": True}}
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
ALLOWED_HOSTS = ["*"]
TIME_ZONE = "UTC"
BUGSINK = {{
    "BASE_URL": "http://127.0.0.1:{port}", "SINGLE_USER": True, "SINGLE_TEAM": True, "PHONEHOME": False,
    "USER_REGISTRATION": "CB_NOBODY", "INGEST_STORE_BASE_DIR": {folder!r} + "/ingest",
    "VALIDATE_ON_DIGEST": "warn", "KEEP_ENVELOPES": 10000, "API_LOG_UNIMPLEMENTED_CALLS": True,
    "MAX_EVENTS_PER_PROJECT_PER_5_MINUTES": 10**7, "MAX_EVENTS_PER_PROJECT_PER_HOUR": 10**7,
    "MAX_EVENTS_PER_PROJECT_PER_MONTH": 10**8, "MAX_EVENTS_PER_5_MINUTES": 10**7,
    "MAX_EVENTS_PER_HOUR": 10**7, "MAX_EVENTS_PER_MONTH": 10**8,
}}
"""

_SEED = """
from bsmain.models import AuthToken
from projects.models import Project
from teams.models import Team
project = Project(pk=1, name="tests", slug="tests", team=Team.objects.create(name="tests"))
project.sentry_key = {key!r}
project.save()
token = AuthToken.create_full_access()
token.token = {token!r}
token.save()
"""


class Bugsink(NamedTuple):
    """A running Bugsink: where to send, and how to read back."""

    dsn: str
    base_url: str
    database: pathlib.Path
    log: pathlib.Path

    def issues(self) -> list[dict[str, Any]]:
        """All issues, as its API shows them."""
        return list(self._get("issues/?project=1")["results"])

    def events(self) -> list[dict[str, Any]]:
        """The stored error events of all issues, in full."""
        ids = [one["id"] for issue in self.issues() for one in self._get(f"events/?issue={issue['id']}")["results"]]
        return [self._get(f"events/{id}/")["data"] for id in ids]

    def envelopes(self) -> list[tuple[dict[str, Any], tuple[Item, ...]]]:
        """Every envelope that arrived, transactions included, parsed; oldest first."""
        uri = f"file:{self.database}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            rows = connection.execute("select data from ingest_envelope order by id").fetchall()
        return [parse_envelope(data) for (data,) in rows]

    def complaints(self) -> list[str]:
        """What its check against Sentry's event schema objected to."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if "ValidationError" in line]

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(
            f"{self.base_url}/api/canonical/0/{path}", headers={"Authorization": f"Bearer {_TOKEN}"}
        )
        with _direct.open(request, timeout=10) as answer:
            return json.load(answer)


# Loopback never goes through a proxy.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def bugsink(environ: Mapping[str, str] | None = None) -> Iterator[Bugsink]:
    """Start one. *environ* is what pip needs to reach an index. Raises Unavailable."""
    _TOOL.install(os.environ if environ is None else environ)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="otel-sentry-bugsink-"))
    port = free_port()
    (folder / "bugsink_conf.py").write_text(_SETTINGS.format(folder=str(folder), port=port))
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "PYTHONPATH": str(folder)}
    env |= {"DJANGO_SETTINGS_MODULE": "bugsink_conf", "PORT": str(port), "LC_ALL": "C.UTF-8"}
    log = folder / "log"
    process: subprocess.Popen[bytes] | None = None
    try:
        _prepare_database(folder, env)
        options = ["--workers", "1", "--threads", "4", "--log-level", "warning", "--keep-alive", "0"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [_TOOL.bin("gunicorn"), "--bind", f"127.0.0.1:{port}", *options, "bugsink.wsgi"],
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        base_url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, f"{base_url}/health/ready", log)
        yield Bugsink(f"http://{_KEY}@127.0.0.1:{port}/1", base_url, folder / "db.sqlite3", log)
    finally:
        if process is not None:
            end(process, signal.SIGINT, 10)  # quick; SIGTERM waits for idle connections
        shutil.rmtree(folder, ignore_errors=True)


def _prepare_database(folder: pathlib.Path, env: dict[str, str]) -> None:
    kept = _TOOL.home / "empty.sqlite3"
    if kept.exists():
        shutil.copy(kept, folder / "db.sqlite3")
        return
    run([_TOOL.bin("bugsink-manage"), "migrate", "-v", "0"], env, "migrate", folder)
    run([_TOOL.bin("bugsink-manage"), "shell", "-c", _SEED.format(key=_KEY, token=_TOKEN)], env, "seed", folder)
    shutil.copy(folder / "db.sqlite3", kept)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: pathlib.Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with _direct.open(url, timeout=5) as answer:
                answer.read()
            return
        except OSError:
            time.sleep(0.05)
    raise Unavailable(f"no answer: {last_words(log.read_text(errors='replace'))}")
